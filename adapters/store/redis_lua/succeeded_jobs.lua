-- ARGV[6] and [7]: the index, most jobs wanted.
local index = at .. "jobs:succeeded:" .. ARGV[6]
local members = redis.call("ZREVRANGEBYLEX", index, "+", "-", "LIMIT", 0, ARGV[7])
return add_values({"ok"}, at .. "jobs", members)
