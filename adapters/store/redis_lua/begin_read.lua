-- Begins every script. KEYS[1] is the schema key; ARGV[1] the version that the caller knows. All
-- other keys share its prefix, and so its slot in a cluster.
local at = string.sub(KEYS[1], 1, -7)
local schema = redis.call("GET", KEYS[1])
if schema ~= ARGV[1] then
  return {"schema", schema or ""}
end

-- The records of members of an index, after what is in `answer`.
local function add_values(answer, key, members)
  for first = 1, #members, 1000 do
    local ids = {}
    for i = first, math.min(first + 999, #members) do
      ids[#ids + 1] = string.sub(members[i], 17)
    end
    for _, text in ipairs(redis.call("HMGET", key, unpack(ids))) do
      answer[#answer + 1] = text
    end
  end
  return answer
end
