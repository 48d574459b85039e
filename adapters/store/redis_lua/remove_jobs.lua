-- ARGV[6]: how many states there are in which jobs have ended; then these, then the ids of the jobs.
local has_ended, first = {}, 7 + tonumber(ARGV[6])
for i = 7, first - 1 do
  has_ended[ARGV[i]] = true
end
for i = first, #ARGV do
  local id = ARGV[i]
  local stored = redis.call("HGET", at .. "heads", id)
  if stored then
    local head = cjson.decode(stored)
    if not has_ended[head[2]] then
      return {"active", id}
    end
    write("HDEL", at .. "jobs", id)
    write("HDEL", at .. "heads", id)
    in_indexes(id, head, "ZREM")
    if head[6] ~= "" then
      write("HDEL", at .. "keys", string.sub(head[6], 2))
    end
    local events = at .. "events:job:" .. id
    for _, seq in ipairs(redis.call("ZRANGE", events, 0, -1)) do
      local found = redis.call("XRANGE", at .. "events", seq .. "-0", seq .. "-0")
      if found[1] then
        write("XDEL", at .. "events", seq .. "-0")
        write("XDEL", at .. "events:kind:" .. cjson.decode(found[1][2][2])[2], seq .. "-0")
      end
    end
    write("DEL", events)
  end
end
return done({"ok"})
