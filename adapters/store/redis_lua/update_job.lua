-- ARGV[6] to [9]: id, version that must be stored, head (without key and digest), record; [10] to
-- [12]: id, text and mark of the ledger entry, or ''; then kind and text of each event.
if is_repeat then
  return done({"ok"})
end
local id = ARGV[6]
local stored = redis.call("HGET", at .. "heads", id)
if not stored then
  return {"missing"}
end
local old = cjson.decode(stored)
if string.format("%.0f", old[1]) ~= ARGV[7] then
  return {"stale", string.format("%.0f", old[1])}
end
local other = ARGV[10] ~= "" and settled_other(ARGV[10], ARGV[11])
if other then
  return {"settled", other}
end
local new = cjson.decode(ARGV[8])
new[6], new[7] = old[6], old[7]
write("HSET", at .. "jobs", id, ARGV[9])
write("HSET", at .. "heads", id, cjson.encode(new))
in_indexes(id, old, "ZREM")
in_indexes(id, new, "ZADD", 0)
note_change(id, string.format("%.0f", new[1]))
for i = 13, #ARGV, 2 do
  append_event(id, ARGV[i], ARGV[i + 1])
end
if ARGV[10] ~= "" then
  write_entry(ARGV[10], ARGV[11], ARGV[12])
end
return done({"ok"})
