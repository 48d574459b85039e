-- ARGV[6] and [7]: an idempotency key, and '=' and its digest or ''. Answers the record that was stored for them,
-- or 'used' with the job's id where the key came with another digest.
local known = redis.call("HGET", at .. "keys", ARGV[6])
if not known then
  return {"ok", false}
end
local first = cjson.decode(known)
if first[2] ~= ARGV[7] then
  return {"used", first[1]}
end
return {"ok", redis.call("HGET", at .. "jobs", first[1])}
