-- One exchange of one holder, atomic: take its reports, grant its asks, tell where the accounts stand (holdings.py says what
-- that means). All keys are declared, and share one hash tag: a cluster takes it.
--
-- KEYS: the holders (hash: holder -> "seq heard_ms", seq -1 once released), the index of accounts (sorted set by the moment at
-- which each may be forgotten), then one hash per account: "settled" of all holders, and "h:<holder>" -> "settled held reserved".
-- ARGV[1], JSON: holder, seq, acked (the last seq that was answered), ttl_ms, keep_ms, gone (whether this is its last),
-- names (of the accounts, as in KEYS), keeps (ms each is kept from now on; 0: slots), earlier (places whose amounts count with
-- each), reports [[place, settled, held, reserved]], asks [[[place, limit, need, want]]]. Integers stay below 2^53, where Lua's
-- doubles are exact; the answer is arrays of integers, since cjson would round them to 14 digits.

local input = cjson.decode(ARGV[1])
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000) -- the server's clock: a worker's may jump
local holders, index = KEYS[1], KEYS[2]

local alive, count, last = {}, 1, nil
local heard = redis.call('HGETALL', holders)
for i = 1, #heard, 2 do
    local seq, at_ms = string.match(heard[i + 1], '(%S+) (%S+)')
    local age_ms = now_ms - at_ms
    if heard[i] == input.holder then
        last = tonumber(seq)
    elseif age_ms >= input.keep_ms then
        redis.call('HDEL', holders, heard[i])
    elseif tonumber(seq) >= 0 and age_ms < input.ttl_ms then
        alive[heard[i]] = true
        count = count + 1
    end
end
if input.seq and last and (last < 0 or input.seq <= last) then
    return {1, 0, count, now_ms, {}, {}}
end
-- A replica that took over may have missed the last of what was acknowledged: then everything is to be reported again.
local new = (not last or last < input.acked) and 1 or 0
if input.gone then
    redis.call('HSET', holders, input.holder, '-1 ' .. now_ms)
elseif input.seq then
    alive[input.holder] = true
    redis.call('HSET', holders, input.holder, string.format('%.0f %.0f', input.seq, now_ms))
else
    count = count - 1 -- somebody who only looks
end

local accounts = {}
local function account(place)
    local known = accounts[place]
    if known then return known end
    known = {settled = 0, rows = {}}
    local fields = redis.call('HGETALL', KEYS[place + 2])
    for i = 1, #fields, 2 do
        local holder = string.match(fields[i], '^h:(.*)$')
        if holder then
            local settled, held, reserved = string.match(fields[i + 1], '(%S+) (%S+) (%S+)')
            known.rows[holder] = {tonumber(settled), tonumber(held), tonumber(reserved)}
        else
            known.settled = tonumber(fields[i + 1])
        end
    end
    accounts[place] = known
    return known
end

local function own(place)
    local known = account(place)
    local row = known.rows[input.holder] or {0, 0, 0}
    known.rows[input.holder], known.changed = row, true
    return known, row
end

local function state(place)
    local settled, held, reserved, expired = 0, 0, 0, 0
    local slots = input.keeps[place] == 0
    local function add(known)
        settled = settled + known.settled
        for holder, row in pairs(known.rows) do
            if alive[holder] then
                held = held + row[2]
                reserved = reserved + row[3]
            elseif row[2] > 0 then
                expired = expired + 1
                if not slots then settled = settled + row[2] end
            end
        end
    end
    add(account(place))
    for _, before in ipairs(input.earlier[place]) do add(account(before)) end
    return settled, held, reserved, expired
end

for _, report in ipairs(input.reports) do
    local known, row = own(report[1])
    known.settled = known.settled + report[2] - row[1]
    row[1], row[2], row[3] = report[2], math.max(report[3], report[4]), report[4]
end

local grants = {}
for g, group in ipairs(input.asks) do
    local amounts = {}
    for a, ask in ipairs(group) do
        local settled, held = state(ask[1])
        local left, need, want = ask[2] - settled - held, ask[3], ask[4]
        if need > left then
            amounts = false
            break
        end
        amounts[a] = need + math.min(math.max(0, want - need), math.floor((left - need) / (2 * count)))
    end
    grants[g] = amounts or {-1}
    for a, amount in ipairs(amounts or {}) do
        local _, row = own(group[a][1])
        row[2] = row[2] + amount
    end
end

if input.gone then
    for place in ipairs(input.names) do account(place).changed = true end
end
local longest_ms = input.keep_ms
for place, known in pairs(accounts) do
    if known.changed then
        local key, row = KEYS[place + 2], known.rows[input.holder]
        if input.gone then
            known.rows[input.holder] = nil
            redis.call('HDEL', key, 'h:' .. input.holder)
            if known.settled ~= 0 then redis.call('HSET', key, 'settled', string.format('%.0f', known.settled)) end
        else
            redis.call('HSET', key, 'settled', string.format('%.0f', known.settled),
                'h:' .. input.holder, string.format('%.0f %.0f %.0f', row[1], row[2], row[3]))
        end
        -- Only ever later, whatever a worker takes the time to be; not for less than a second, and so not at every call.
        local keep_ms = math.max(input.keeps[place], input.keep_ms)
        if redis.call('PTTL', key) < keep_ms - 1000 then
            redis.call('PEXPIRE', key, keep_ms)
            redis.call('ZADD', index, now_ms + keep_ms, input.names[place])
        end
        longest_ms = math.max(longest_ms, keep_ms)
    end
end
redis.call('ZREMRANGEBYSCORE', index, '-inf', now_ms)
for _, key in ipairs({holders, index}) do
    if redis.call('PTTL', key) < longest_ms - 1000 then redis.call('PEXPIRE', key, longest_ms) end
end

local states = {}
for place in ipairs(input.names) do
    states[place] = {state(place)}
end
return {0, new, count, now_ms, grants, states}
