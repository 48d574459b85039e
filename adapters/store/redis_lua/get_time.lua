-- Answers the server's time in seconds.
return {"ok", redis.call("TIME")[1]}
