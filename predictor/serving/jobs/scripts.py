"""What is done in Redis in one step each, in Lua: another replica, or a crash, sees all of it or nothing.

All of them may run twice. They use Redis's own clock, so that the clocks of replicas do not matter.
"""

GROUP = "replicas"
"""The consumer group of both streams."""
MOST_DEAD = 1000
"""Dead letters that are kept, about."""

# What somebody else put under our names would stop every replica, so it is removed, and numbers begin again at 0.
_COMMON = f"""
local function own(key, kind)
  local found = redis.call('TYPE', key).ok
  if found ~= kind and found ~= 'none' then redis.call('DEL', key) end
end
local function whole(value) return value and #value < 16 and string.match(value, '^%d+$') end
local function add(key, field, by)
  local before = redis.call('HGET', key, field)
  if before and not whole(before) then redis.call('HSET', key, field, 0) end
  return redis.call('HINCRBY', key, field, by)
end
local function now() return tonumber(redis.call('TIME')[1]) end
-- Take an entry off its stream, whose length is the backlog, and count its texts once.
local function drop(stream, counts, lane, id, texts)
  redis.call('XACK', stream, '{GROUP}', id)
  local dropped = redis.call('XDEL', stream, id)
  if dropped == 1 then add(counts, lane .. ':out', texts) end
  if redis.call('XLEN', stream) == 0 then
    redis.call('HSET', counts, lane .. ':out', redis.call('HGET', counts, lane .. ':in') or 0)
  end
  return dropped
end
"""

# Where its memory is full, Redis refuses a script at the first write that takes memory, unless another write came
# before. So a new job is refused as a whole, and those there are go on and make room.
SUBMIT = (
    _COMMON
    + """
local job, texts, open, stream, counts = unpack(KEYS)
local id, client, total, starts, lane, most, ttl = unpack(ARGV, 1, 7)
if redis.call('EXISTS', job) == 1 then return 1 end
own(open, 'zset') own(stream, 'stream') own(counts, 'hash')
local time = now()
if redis.call('ZCOUNT', open, time, '+inf') >= tonumber(most) then return 0 end
redis.call('HSET', job, 'client', client, 'state', 'queued', 'lane', lane, 'total', total, 'starts', starts,
  'left', (#ARGV - 7) / 2, 'done', 0, 'failed', 0)
for n = 8, #ARGV, 2 do
  local chunk = (n - 8) / 2
  redis.call('HSET', texts, chunk, ARGV[n + 1])
  redis.call('XADD', stream, '*', 'job', id, 'chunk', chunk, 'texts', ARGV[n])
end
redis.call('HSET', job, 'position', add(counts, lane .. ':in', total))
redis.call('EXPIRE', job, ttl)
redis.call('EXPIRE', texts, ttl)
redis.call('ZREMRANGEBYSCORE', open, '-inf', time)
redis.call('ZADD', open, time + ttl, id)
redis.call('EXPIRE', open, ttl)
return 1
"""
)

# Nothing is returned, and the entry is dropped, where its chunk needs no answer any more.
BEGIN = (
    _COMMON
    + """
local job, texts, results, stream, counts = unpack(KEYS)
local lane, id, count, chunk, ttl = unpack(ARGV)
own(job, 'hash') own(texts, 'hash') own(results, 'hash')
local state, starts, client = unpack(redis.call('HMGET', job, 'state', 'starts', 'client'))
if (state ~= 'queued' and state ~= 'running') or redis.call('HEXISTS', results, chunk) == 1 then
  drop(stream, counts, lane, id, count)
  return nil
end
redis.call('EXPIRE', job, ttl)
redis.call('EXPIRE', texts, ttl)
if state == 'queued' then redis.call('HSET', job, 'state', 'running') end
return {redis.call('HGET', texts, chunk), starts, client}
"""
)

# Results are stored and counted once, whoever answers first; a reason makes the chunk a dead letter.
FINISH = (
    _COMMON
    + f"""
local job, texts, results, open, stream, counts, dead = unpack(KEYS)
local lane, id, count, chunk, blob, rows, failed, ttl, name, reason = unpack(ARGV)
own(job, 'hash') own(texts, 'hash') own(results, 'hash') own(open, 'zset') own(dead, 'stream')
local dropped = drop(stream, counts, lane, id, count)
local buried = 0
if reason ~= '' and dropped == 1 then
  redis.call('XADD', dead, 'MAXLEN', '~', {MOST_DEAD}, '*', 'job', name, 'chunk', chunk, 'reason', reason)
  redis.call('EXPIRE', dead, ttl)
  buried = 1
end
local state, left, done, lost = unpack(redis.call('HMGET', job, 'state', 'left', 'done', 'failed'))
if state ~= 'queued' and state ~= 'running' then return {{'dropped', buried}} end
if rows == '0' then return {{'dropped', buried}} end
if not (whole(rows) and whole(left) and whole(done) and whole(lost)) then
  redis.call('DEL', job, texts, results)
  redis.call('ZREM', open, name)
  return {{'dropped', buried}}
end
if redis.call('HSETNX', results, chunk, blob) == 0 then return {{'dropped', buried}} end
redis.call('HDEL', texts, chunk)
redis.call('HINCRBY', job, 'done', rows)
redis.call('HINCRBY', job, 'failed', failed)
redis.call('EXPIRE', job, ttl)
redis.call('EXPIRE', texts, ttl)
redis.call('EXPIRE', results, ttl)
if redis.call('HINCRBY', job, 'left', -1) <= 0 then
  redis.call('HSET', job, 'state', 'done')
  redis.call('DEL', texts)
  redis.call('ZREM', open, name)
  return {{'done', buried}}
end
redis.call('ZADD', open, 'XX', now() + ttl, name)
return {{'stored', buried}}
"""
)

# The chunks that wait are dropped when their turn comes.
CANCEL = (
    _COMMON
    + """
local job, texts, results, open = unpack(KEYS)
local name = ARGV[1]
own(job, 'hash') own(open, 'zset')
local state = redis.call('HGET', job, 'state')
if state ~= 'queued' and state ~= 'running' then return 0 end
redis.call('HSET', job, 'state', 'cancelled')
redis.call('DEL', texts, results)
redis.call('ZREM', open, name)
return 1
"""
)

LOOK = (
    _COMMON
    + """
local job, small, bulk, counts, replicas = unpack(KEYS)
own(job, 'hash') own(small, 'stream') own(bulk, 'stream') own(counts, 'hash') own(replicas, 'hash')
return {
  redis.call('HMGET', job, 'client', 'state', 'lane', 'total', 'done', 'failed', 'position', 'starts'),
  {redis.call('XLEN', small), redis.call('XLEN', bulk)},
  redis.call('HMGET', counts, 'small:in', 'small:out', 'bulk:in', 'bulk:out'),
  redis.call('HVALS', replicas), now()}
"""
)

# A replica's heartbeat: keep what it holds, publish its rate, take what dead replicas left, and see the backlog.
# Groups that were lost are made again from the beginning of what their streams hold. Consumers that have been away for
# an hour and hold nothing are forgotten.
BEAT = (
    _COMMON
    + f"""
local small, bulk, counts, replicas = unpack(KEYS)
local me, rate, idle, room, seconds = unpack(ARGV, 1, 5)
own(small, 'stream') own(bulk, 'stream') own(counts, 'hash') own(replicas, 'hash')
local at, taken = 6, {{}}
for n, stream in ipairs({{small, bulk}}) do
  redis.pcall('XGROUP', 'CREATE', stream, '{GROUP}', '0', 'MKSTREAM')
  local held = tonumber(ARGV[at])
  for k = at + 1, at + held do redis.call('XCLAIM', stream, '{GROUP}', me, 0, ARGV[k], 'JUSTID') end
  at = at + held + 1
  if tonumber(room) > #taken then
    local left = redis.call('XAUTOCLAIM', stream, '{GROUP}', me, idle, '0-0', 'COUNT', tonumber(room) - #taken)
    for _, entry in ipairs(left[2]) do
      local times = redis.call('XPENDING', stream, '{GROUP}', entry[1], entry[1], 1)
      taken[#taken + 1] = {{n, entry[1], entry[2], times[1] and times[1][4] or 1}}
    end
  end
  for _, about in ipairs(redis.call('XINFO', 'CONSUMERS', stream, '{GROUP}')) do
    local consumer = {{}}
    for k = 1, #about, 2 do consumer[about[k]] = about[k + 1] end
    if consumer.pending == 0 and consumer.idle > 3600000 then
      redis.call('XGROUP', 'DELCONSUMER', stream, '{GROUP}', consumer.name)
    end
  end
end
local time = now()
redis.call('HSET', replicas, me, time .. ' ' .. rate)
for _, name in ipairs(redis.call('HKEYS', replicas)) do
  local since = tonumber(string.match(redis.call('HGET', replicas, name), '^%d+') or '0')
  if since + seconds < time then redis.call('HDEL', replicas, name) end
end
return {{taken, {{redis.call('XLEN', small), redis.call('XLEN', bulk)}},
  redis.call('HMGET', counts, 'small:in', 'small:out', 'bulk:in', 'bulk:out')}}
"""
)

# The end of a replica: what it still holds may be taken by others at once, as if it had not been delivered.
LEAVE = f"""
local small, bulk, replicas = unpack(KEYS)
local me, at = ARGV[1], 2
redis.call('HDEL', replicas, me)
for _, stream in ipairs({{small, bulk}}) do
  local held = tonumber(ARGV[at])
  for k = at + 1, at + 2 * held, 2 do
    redis.call('XCLAIM', stream, '{GROUP}', me, 0, ARGV[k], 'IDLE', 86400000, 'RETRYCOUNT', ARGV[k + 1], 'JUSTID')
  end
  at = at + 2 * held + 1
  if #redis.call('XPENDING', stream, '{GROUP}', '-', '+', 1, me) == 0 then
    redis.call('XGROUP', 'DELCONSUMER', stream, '{GROUP}', me)
  end
end
"""
