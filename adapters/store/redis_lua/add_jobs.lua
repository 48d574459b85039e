-- From ARGV[6], seven for each job: id, head, record, 'k' and the idempotency key or '', [id, digest],
-- kind and text of the event. Answers for each '', or the record of the job that was stored before.
local answer, fresh_records, fresh_keys = {"ok"}, {}, {}
for i = 6, #ARGV, 7 do
  local id, head, record, key = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  local known = key ~= "" and
    (fresh_keys[key] or redis.call("HGET", at .. "keys", string.sub(key, 2)))
  local first = known and cjson.decode(known)
  if first and first[2] ~= cjson.decode(ARGV[i + 4])[2] then
    return {"used", string.sub(key, 2), first[1]}
  end
  -- What this very call stored when it came the first time is no older job.
  if first and not (is_repeat and first[1] == id) then
    answer[#answer + 1] = fresh_records[first[1]] or redis.call("HGET", at .. "jobs", first[1])
  else
    answer[#answer + 1] = ""
    if not is_repeat then
      if fresh_records[id] or redis.call("HEXISTS", at .. "heads", id) == 1 then
        return {"taken", id}
      end
      fresh_records[id] = record
      write("HSET", at .. "jobs", id, record)
      write("HSET", at .. "heads", id, head)
      in_indexes(id, cjson.decode(head), "ZADD", 0)
      note_change(id, "1")
      if key ~= "" then
        fresh_keys[key] = ARGV[i + 4]
        write("HSET", at .. "keys", string.sub(key, 2), ARGV[i + 4])
      end
      append_event(id, ARGV[i + 5], ARGV[i + 6])
    end
  end
end
return done(answer)
