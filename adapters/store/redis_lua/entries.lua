-- ARGV[6] to [9]: `time` or `unsettled`, the bounds, most entries. Answers member and text of each.
local index = at .. "entries:" .. ARGV[6]
local members = redis.call("ZRANGEBYLEX", index, ARGV[7], ARGV[8], "LIMIT", 0, ARGV[9])
local texts = add_values({}, at .. "entries", members)
local answer = {"ok"}
for i, member in ipairs(members) do
  answer[#answer + 1] = member
  answer[#answer + 1] = texts[i]
end
return answer
