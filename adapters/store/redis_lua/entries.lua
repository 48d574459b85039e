-- ARGV[6] to [8]: `time` or `unsettled`, then the bounds.
local members = redis.call("ZRANGEBYLEX", at .. "entries:" .. ARGV[6], ARGV[7], ARGV[8])
return add_values({"ok"}, at .. "entries", members)
