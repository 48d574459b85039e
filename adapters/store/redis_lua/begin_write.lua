-- Begins every script that writes, after begin_read. ARGV[2] is the fencing number of the caller's
-- lease or ''; ARGV[3] to [5] name the call, so that one whose reply was lost can be sent again.
if ARGV[2] ~= "" then
  local newest = redis.call("GET", at .. "fence")
  if newest and tonumber(newest) > tonumber(ARGV[2]) then
    return {"fenced", newest}
  end
end
local calls = at .. "calls:" .. ARGV[3]
local last = redis.call("HGET", calls, ARGV[4])
-- Also an older one: it was on its way while the one after it was answered.
local is_repeat = last and tonumber(last) >= tonumber(ARGV[5])

-- Redis takes nothing back, so writes are noted down, and done at the very end.
local writes = {}
local function write(...)
  writes[#writes + 1] = {...}
end

local kinds = {HDEL = "hash", HSET = "hash", XADD = "stream", XDEL = "stream", ZADD = "zset", ZREM = "zset"}
-- What is wrong with the store, found while the writes were noted down.
local damage = false

local function done(answer)
  -- A repeat writes too: WAIT looks at what this connection wrote.
  write("HSET", calls, ARGV[4], is_repeat and last or ARGV[5])
  write("EXPIRE", calls, 86400)
  -- What could make a write fail must show before the first one: a key with something else in it, or one
  -- that is not here, while a slot moves to another node of a cluster.
  local found = {}
  for _, words in ipairs(writes) do
    local key, kind = words[2], kinds[words[1]]
    if not found[key] then
      local said = redis.call("TYPE", key)
      found[key] = type(said) == "table" and said.ok or said
    end
    if kind and found[key] ~= "none" and found[key] ~= kind then
      damage = key .. " is a " .. found[key]
    end
  end
  if damage then
    return redis.error_reply("WRONGTYPE " .. damage)
  end
  for _, words in ipairs(writes) do
    redis.call(unpack(words))
  end
  return answer
end

-- A command on every index in which a job stands, with the arguments before the member.
local function in_indexes(id, head, command, ...)
  local state, project = head[2], head[4]
  local indexes = {at .. "jobs:state:" .. state, at .. "jobs:project:" .. state .. ":" .. project}
  if state == "succeeded" then
    indexes[3] = at .. "jobs:succeeded:" .. #project .. ":" .. project .. ":" .. head[5]
  end
  for _, index in ipairs(indexes) do
    local words = {command, index, ...}
    words[#words + 1] = head[3] .. id
    write(unpack(words))
  end
end

-- For those who keep a copy of all active jobs: which one is to be read again.
local function note_change(id, version)
  write("XADD", at .. "changes", "MAXLEN", "~", "100000", "*", id, version)
end

local seq = false
local function write_event(number, id, kind, text)
  -- Not as Lua would write a number: from 1e14 on that has an exponent.
  seq = number
  local place = string.format("%.0f", number)
  write("SET", at .. "seq", place)
  write("XADD", at .. "events", place .. "-0", "e", text)
  write("XADD", at .. "events:kind:" .. kind, place .. "-0", "", "")
  if id ~= "" then
    write("ZADD", at .. "events:job:" .. id, place, place)
  end
end

local function append_event(id, kind, text)
  if not seq then
    seq = tonumber(redis.call("GET", at .. "seq") or "0")
    local newest = redis.call("XREVRANGE", at .. "events", "+", "-", "COUNT", 1)[1]
    if newest and tonumber(string.match(newest[1], "%d+")) > seq then
      damage = at .. "seq is behind " .. at .. "events"
    end
  end
  write_event(seq + 1, id, kind, text)
end

-- The stored text where the entry is settled and is not this one.
local function settled_other(id, text)
  local mark = redis.call("HGET", at .. "entries:marks", id)
  if mark and string.sub(mark, 1, 1) == "1" then
    local stored = redis.call("HGET", at .. "entries", id)
    return stored ~= text and stored
  end
  return false
end

local function write_entry(id, text, mark)
  local old = redis.call("HGET", at .. "entries:marks", id)
  write("HSET", at .. "entries", id, text)
  write("HSET", at .. "entries:marks", id, mark)
  if old then
    write("ZREM", at .. "entries:time", string.sub(old, 2) .. id)
    write("ZREM", at .. "entries:unsettled", string.sub(old, 2) .. id)
  end
  write("ZADD", at .. "entries:time", 0, string.sub(mark, 2) .. id)
  if string.sub(mark, 1, 1) == "0" then
    write("ZADD", at .. "entries:unsettled", 0, string.sub(mark, 2) .. id)
  end
end
