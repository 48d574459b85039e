-- ARGV[6] to [8]: job id or '', kind, text.
if not is_repeat then
  append_event(ARGV[6], ARGV[7], ARGV[8])
end
return done({"ok"})
