-- ARGV[6] and [7]: the member after which they stand or '', most entries. Answers member and text of each.
local bound = ARGV[6] == "" and "-" or "(" .. ARGV[6]
local members = redis.call("ZRANGEBYLEX", at .. "entries:time", bound, "+", "LIMIT", 0, ARGV[7])
local texts = add_values({}, at .. "entries", members)
local answer = {"ok"}
for i, member in ipairs(members) do
  answer[#answer + 1] = member
  answer[#answer + 1] = texts[i]
end
return answer
