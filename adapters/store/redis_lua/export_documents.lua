-- Answers key and text of each.
local answer = redis.call("HGETALL", at .. "documents")
table.insert(answer, 1, "ok")
return answer
