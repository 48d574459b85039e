-- ARGV[6] to [8]: job id, text, mark.
if is_repeat then
  return done({"ok"})
end
local other = settled_other(ARGV[6], ARGV[7])
if other then
  return {"settled", other}
end
write_entry(ARGV[6], ARGV[7], ARGV[8])
return done({"ok"})
