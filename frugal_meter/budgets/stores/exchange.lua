-- One exchange of one holder, atomic: take its reports, grant its asks, tell where the accounts stand; holdings.py says what
-- that means. Costs the same with one holder as with hundreds: an account keeps the sums over its rows. All keys are declared
-- and share one hash tag, so that a cluster takes it.
--
-- KEYS: the holders (sorted set by when each was last heard of), the accounts (sorted set by when each may be forgotten), this
-- holder's last seq (-1 once released), then one hash per account: settled, held, reserved, expired, swept, and of each holder
-- "h:<holder>" -> "settled held reserved folded". A row is folded once its holder was not heard of for ttl_ms: what it held is
-- then in the account's settled (slots: nowhere); the holder's next report unfolds it. Until when that was done is in "swept".
-- ARGV[1], JSON: holder, seq (none: somebody who only looks), acked (the last seq that was answered), ttl_ms, keep_ms, drop
-- (whether its rows here are given up), gone (whether it is never heard again), names (of the accounts, as in KEYS), keeps (ms to
-- keep each; 0: slots), earlier (places whose amounts count with each), later (by place, as text: those of the later windows that
-- a grant there must fit into, too), reports [[place, settled, held, reserved]], asks [[[place, limit, need, want]]]. Integers
-- stay below 2^53, where Lua's doubles are exact. The answer is JSON as well, [stale, new, holders, grants, states], written here:
-- cjson would round integers to 14 digits, and arrays of a reply are slow to read for a client in Python.

local input = cjson.decode(ARGV[1])
local holders, index, mine, field = KEYS[1], KEYS[2], KEYS[3], 'h:' .. input.holder
local time = redis.call('TIME') -- the server's clock: a worker's may jump
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local since_ms = now_ms - input.ttl_ms

local function whole(number) return string.format('%.0f', number) end

local last = tonumber(redis.call('GET', mine) or '')
if input.seq and last and (last < 0 or input.seq <= last) then
    return '[1,0,' .. redis.call('ZCOUNT', holders, '(' .. whole(since_ms), '+inf') .. ',[],[]]'
end
-- New: never heard of, or given up, or heard by a server that this one replaced before it knew. All is to be reported again.
local heard_ms = tonumber(redis.call('ZSCORE', holders, input.holder) or 0)
local new = (not last or last < (input.acked or 0) or heard_ms <= since_ms) and 1 or 0
if input.gone then
    redis.call('ZREM', holders, input.holder)
    redis.call('SET', mine, '-1', 'PX', input.keep_ms)
elseif input.seq and not input.drop then
    if now_ms - heard_ms >= 1000 or new == 1 then redis.call('ZADD', holders, whole(now_ms), input.holder) end
    redis.call('SET', mine, whole(input.seq), 'PX', input.keep_ms)
end
-- What only has to be done now and then is done at a holder's first call of a second: each command costs the server a microsecond.
local tidies = not input.seq or input.drop or now_ms - heard_ms >= 1000
if tidies then redis.call('ZREMRANGEBYSCORE', holders, '-inf', whole(now_ms - input.keep_ms)) end
local lost = redis.call('ZRANGEBYSCORE', holders, '-inf', whole(since_ms), 'WITHSCORES')
local count = math.max(1, redis.call('ZCOUNT', holders, '(' .. whole(since_ms), '+inf'))

local function parsed(text)
    local row = {0, 0, 0, 0}
    if text then
        local settled, held, reserved, folded = string.match(text, '(%S+) (%S+) (%S+) (%S+)')
        row = {tonumber(settled), tonumber(held), tonumber(reserved), tonumber(folded)}
    end
    return row
end

-- Move what a row holds out of the sums and into settled (sign 1), or back (sign -1).
local function fold(known, row, sign)
    known.held, known.reserved = known.held - sign * row[2], known.reserved - sign * row[3]
    if not known.slots then known.settled = known.settled + sign * row[2] end
    if row[2] > 0 then known.expired = known.expired + sign end
    row[4] = row[4] + sign
    known.changed = true
end

local accounts = {}
local function account(place)
    if accounts[place] then return accounts[place] end
    local key = KEYS[place + 3]
    local kept = redis.call('HMGET', key, 'settled', 'held', 'reserved', 'expired', 'swept', field)
    local known = {
        key = key, slots = input.keeps[place] == 0, settled = tonumber(kept[1] or 0), held = tonumber(kept[2] or 0),
        reserved = tonumber(kept[3] or 0), expired = tonumber(kept[4] or 0), row = parsed(kept[6]), has_row = kept[6],
        ends = tidies or not kept[5] or since_ms - tonumber(kept[5]) >= 1000, -- whether to look when it ends
    }
    for i = 1, #lost, 2 do
        if tonumber(lost[i + 1]) > tonumber(kept[5] or 0) and lost[i] ~= input.holder then
            local text = redis.call('HGET', key, 'h:' .. lost[i])
            local row = parsed(text)
            if text and row[4] == 0 then
                fold(known, row, 1)
                redis.call('HSET', key, 'h:' .. lost[i], table.concat({whole(row[1]), whole(row[2]), whole(row[3]), '1'}, ' '))
            end
        end
    end
    accounts[place] = known
    return known
end

local function own(place)
    local known = account(place)
    if known.row[4] == 1 then fold(known, known.row, -1) end
    known.changed = true
    return known, known.row
end

local function hold(known, row, held, reserved)
    known.held, known.reserved = known.held + held - row[2], known.reserved + reserved - row[3]
    row[2], row[3] = held, reserved
end

local function state(place)
    local known = account(place)
    local settled, held, reserved, expired = known.settled, known.held, known.reserved, known.expired
    for _, before in ipairs(input.earlier[place]) do
        known = account(before)
        settled, held = settled + known.settled, held + known.held
        reserved, expired = reserved + known.reserved, expired + known.expired
    end
    return settled, held, reserved, expired
end

for _, report in ipairs(input.reports) do
    local known, row = own(report[1])
    known.settled = known.settled + report[2] - row[1]
    row[1] = report[2]
    hold(known, row, math.max(report[3], report[4]), report[4])
end

local grants = {}
for g, group in ipairs(input.asks) do
    local amounts = {}
    for a, ask in ipairs(group) do
        local settled, held = state(ask[1])
        local left, need, want = ask[2] - settled - held, ask[3], ask[4]
        for _, window in ipairs(input.later[tostring(ask[1])] or {}) do
            settled, held = state(window)
            left = math.min(left, ask[2] - settled - held)
        end
        if need > left then
            amounts = nil
            break
        end
        amounts[a] = need + math.min(math.max(0, want - need), math.floor((left - need) / (2 * count)))
    end
    grants[g] = amounts or {-1}
    for a, amount in ipairs(amounts or {}) do
        local known, row = own(group[a][1])
        hold(known, row, row[2] + amount, row[3])
    end
end

local longest_ms = input.keep_ms
for place, name in ipairs(input.names) do
    local known = account(place)
    if input.drop and (known.has_row or known.changed) then
        local _, row = own(place)
        hold(known, row, 0, 0)
    end
    if known.changed then
        local sums = {known.key, 'settled', whole(known.settled), 'held', whole(known.held), 'reserved', whole(known.reserved),
            'expired', whole(known.expired), 'swept', whole(since_ms)}
        if input.seq and not input.drop then
            local row = known.row
            sums[12] = field
            sums[13] = table.concat({whole(row[1]), whole(row[2]), whole(row[3]), whole(row[4])}, ' ')
        end
        redis.call('HSET', unpack(sums))
        if input.drop then redis.call('HDEL', known.key, field) end
        -- Only ever later, whatever a worker takes the time to be; not for less than a second.
        local keep_ms = math.max(input.keeps[place], input.keep_ms)
        if known.ends and redis.call('PTTL', known.key) < keep_ms - 1000 then
            redis.call('PEXPIRE', known.key, keep_ms)
            redis.call('ZADD', index, whole(now_ms + keep_ms), name)
            tidies = true
        end
        longest_ms = math.max(longest_ms, keep_ms)
    end
end
if tidies then
    redis.call('ZREMRANGEBYSCORE', index, '-inf', whole(now_ms))
    for _, key in ipairs({holders, index}) do
        if redis.call('PTTL', key) < longest_ms - 1000 then redis.call('PEXPIRE', key, longest_ms) end
    end
end

local function written(rows)
    local texts = {}
    for r, row in ipairs(rows) do
        for n, number in ipairs(row) do row[n] = whole(number) end
        texts[r] = '[' .. table.concat(row, ',') .. ']'
    end
    return '[' .. table.concat(texts, ',') .. ']'
end

local states = {}
for place in ipairs(input.names) do states[place] = {state(place)} end
return '[0,' .. new .. ',' .. count .. ',' .. written(grants) .. ',' .. written(states) .. ']'
