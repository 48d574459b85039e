-- ARGV[6] and [7]: the newest change that the caller knows, as an answer names it, or ''; [8]: most changes.
-- Answers "ok", id and mark of the newest change told, then id and record of each job that has changed;
-- or "anew" with id and mark of the newest change, where the history does not hold what the caller knows.
local changes, answer = at .. "changes", {}

local function tell(word, entry)
  answer[1], answer[2], answer[3] = word, "", ""
  if entry then
    answer[2], answer[3] = entry[1], entry[2][1] .. " " .. entry[2][2]
  end
end

if ARGV[6] ~= "" then
  tell("ok", redis.call("XRANGE", changes, ARGV[6], ARGV[6])[1])
end
if ARGV[6] == "" or answer[3] ~= ARGV[7] then
  tell("anew", redis.call("XREVRANGE", changes, "+", "-", "COUNT", 1)[1])
  return answer
end
local is_told, ids = {}, {}
for _, entry in ipairs(redis.call("XRANGE", changes, "(" .. ARGV[6], "+", "COUNT", ARGV[8])) do
  tell("ok", entry)
  local id = entry[2][1]
  if not is_told[id] then
    is_told[id] = true
    ids[#ids + 1] = id
  end
end
for _, id in ipairs(ids) do
  answer[#answer + 1] = id
  answer[#answer + 1] = redis.call("HGET", at .. "jobs", id)
end
return answer
