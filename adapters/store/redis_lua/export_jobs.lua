-- ARGV[6] to [8]: state, the member after which they stand or '', most jobs. Answers member, record and
-- head of each.
local index = at .. "jobs:state:" .. ARGV[6]
local bound = ARGV[7] == "" and "-" or "(" .. ARGV[7]
local members = redis.call("ZRANGEBYLEX", index, bound, "+", "LIMIT", 0, ARGV[8])
local records = add_values({}, at .. "jobs", members)
local heads = add_values({}, at .. "heads", members)
local answer = {"ok"}
for i, member in ipairs(members) do
  answer[#answer + 1] = member
  answer[#answer + 1] = records[i]
  answer[#answer + 1] = heads[i]
end
return answer
