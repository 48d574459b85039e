-- Makes the store where there is none. ARGV[1] is what its schema key is to hold then; '' if it may not be made.
-- Answers what it holds, 'none', or 'damaged' where there is data and no schema.
local at = string.sub(KEYS[1], 1, -7)
local schema = redis.call("GET", KEYS[1])
if not schema then
  for _, key in ipairs({"jobs", "heads", "events", "entries", "documents"}) do
    if redis.call("EXISTS", at .. key) == 1 then
      return {"damaged", at .. key}
    end
  end
  if ARGV[1] == "" then
    return {"none", ""}
  end
  redis.call("SET", KEYS[1], ARGV[1])
  schema = ARGV[1]
end
-- Whether all that scripts do is allowed: a right that is missing must not stop one half-way.
local probe = at .. "probe"
redis.call("DEL", probe)
redis.call("TIME")
redis.call("SET", probe, "text")
redis.call("GET", probe)
redis.call("EXISTS", probe)
redis.call("TYPE", probe)
redis.call("DEL", probe)
redis.call("HSET", probe, "field", "text")
redis.call("HGET", probe, "field")
redis.call("HMGET", probe, "field")
redis.call("HEXISTS", probe, "field")
redis.call("HDEL", probe, "other")
redis.call("EXPIRE", probe, 1)
redis.call("DEL", probe)
redis.call("ZADD", probe, 0, "member")
redis.call("ZRANGE", probe, 0, -1)
redis.call("ZRANGEBYLEX", probe, "-", "+")
redis.call("ZREVRANGEBYLEX", probe, "+", "-")
redis.call("ZRANGEBYSCORE", probe, "-inf", "+inf")
redis.call("ZREM", probe, "member")
redis.call("XADD", probe, "1-0", "", "")
redis.call("XRANGE", probe, "-", "+")
redis.call("XREVRANGE", probe, "+", "-")
redis.call("XDEL", probe, "1-0")
redis.call("DEL", probe)
return {"ok", schema}
