-- From ARGV[6], five for each job: id, head, record, 'k' and the idempotency key or '', [id, digest].
for i = 6, #ARGV, 5 do
  local id, key = ARGV[i], ARGV[i + 3]
  write("HSET", at .. "jobs", id, ARGV[i + 2])
  write("HSET", at .. "heads", id, ARGV[i + 1])
  in_indexes(id, cjson.decode(ARGV[i + 1]), "ZADD", 0)
  if key ~= "" then
    write("HSET", at .. "keys", string.sub(key, 2), ARGV[i + 4])
  end
end
return done({"ok"})
