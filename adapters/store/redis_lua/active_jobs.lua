-- From ARGV[6]: the states.
local answer = {"ok"}
for i = 6, #ARGV do
  add_values(answer, at .. "jobs", redis.call("ZRANGE", at .. "jobs:state:" .. ARGV[i], 0, -1))
end
return answer
