-- Makes an empty store the target of a copy. ARGV[1]: what the schema key holds until it is finished.
local at = string.sub(KEYS[1], 1, -7)
local schema = redis.call("GET", KEYS[1])
if schema == ARGV[1] then
  return {"ok", schema}
end
local is_unfinished = schema and string.sub(schema, 1, 8) == "copying:"
for _, key in ipairs({"jobs", "heads", "events", "entries", "documents"}) do
  if is_unfinished or redis.call("EXISTS", at .. key) == 1 then
    return {"filled", schema or ""}
  end
end
redis.call("SET", KEYS[1], ARGV[1])
return {"ok", ARGV[1]}
