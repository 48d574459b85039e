--[[
Gives jobs that ask Gridtide for planning their latest safe start, at the moment they are submitted.

    sbatch --comment='gridtide:deadline=2026-12-04T09:00:00Z,duration=4h' train.sh

Such a job needs no --hold and no --begin: Slurm starts it at its latest safe start, whatever becomes of Gridtide, which
lets it start sooner where that is cleaner. A job that has a start, is held, or does not ask stays as it is. Nothing here
refuses a job: what is wrong with its words is said to its user, and written into its comment once Gridtide has seen it.

Alone: JobSubmitPlugins=lua, with this file as job_submit.lua beside slurm.conf. Beside a job_submit.lua of your own: see
README.md. Runs on Lua 5.1 and later, and reads no file.
]]

local gridtide = {}

-- The start comes so many seconds before the latest one, as when Gridtide itself sets it.
gridtide.GUARD_BEFORE_S = 120

-- What may be stated; all but times and durations are Gridtide's to check.
gridtide.WORDS = {
    "deadline", "patience", "duration", "duration_p95", "not_before", "start_by", "project", "power_w", "carbon_price",
    "max_cost", "max_carbon_g", "priority", "interruptible", "min_chunk", "checkpoint_cost", "max_interruptions", "signal",
}
local IS_WORD = {}
for _, word in ipairs(gridtide.WORDS) do
    IS_WORD[word] = true
end

local UNIT_S = { d = 86400, h = 3600, m = 60, s = 1 }
local MINUTE_S = 60
local MAX_S = 366 * UNIT_S.d
-- Slurm's own marks for "not set" and "no limit" are the two largest numbers of 32 bits.
local NO_VAL = 4294967294

-- Ends in a message for the user; `guard` hands it on, without the place in this file.
local function fail(form, ...)
    error({ message = string.format(form, ...) }, 0)
end

-- Seconds of 4h, 1h30m, 1.5d or PT4H; nil for another form.
function gridtide.parse_duration(text)
    local rest = text:lower():gsub("%s", "")
    local days, clock = rest:match("^p([^t]*)t?(.*)$")
    if days ~= nil then
        if (days ~= "" and days:sub(-1) ~= "d") or clock:find("d") then
            return nil
        end
        rest = days .. clock
    end
    local total, last = 0, 1e9
    while rest ~= "" do
        local number, unit, behind = rest:match("^(%d+%.?%d*)([dhms])(.*)$")
        if number == nil or number:sub(-1) == "." or UNIT_S[unit] >= last then
            return nil
        end
        total, last, rest = total + tonumber(number) * UNIT_S[unit], UNIT_S[unit], behind
    end
    total = math.floor(total + 0.5)
    return total > 0 and total <= MAX_S and total or nil
end

-- Days from 1970-01-01 to a date of the Gregorian calendar, its years beginning in March.
local function days_to(year, month, day)
    if month <= 2 then
        year, month = year - 1, month + 12
    end
    local leap = math.floor(year / 4) - math.floor(year / 100) + math.floor(year / 400)
    return 365 * year + leap + math.floor((153 * (month - 3) + 2) / 5) + day - 719469
end

-- Epoch seconds of an ISO 8601 time with its offset, such as 2026-12-04T09:00:00Z; nil for another form.
function gridtide.parse_instant(text)
    local year, month, day, hour, minute, rest =
        text:upper():match("^%s*(%d%d%d%d)%-(%d%d)%-(%d%d)[T ](%d%d):(%d%d)(.-)%s*$")
    if year == nil then
        return nil
    end
    local second, behind = rest:match("^:(%d%d)%.?%d*(.*)$")
    local zone = behind or rest
    local sign, zone_hour, zone_minute = zone:match("^([+-])(%d%d):?(%d%d)$")
    if sign == nil then
        sign, zone_hour, zone_minute = zone:match("^([+-])(%d%d)$"), zone:match("^[+-](%d%d)$"), "00"
    end
    if zone == "Z" then
        sign, zone_hour, zone_minute = "+", "00", "00"
    end
    year, month, day = tonumber(year), tonumber(month), tonumber(day)
    hour, minute, second = tonumber(hour), tonumber(minute), tonumber(second or "0")
    if sign == nil or month < 1 or month > 12 or day < 1 or hour > 23 or minute > 59 or second > 59 then
        return nil
    end
    local from = days_to(year, month, day)
    local next_month = month == 12 and days_to(year + 1, 1, 1) or days_to(year, month + 1, 1)
    if from >= next_month then
        return nil
    end
    if tonumber(zone_hour) > 23 or tonumber(zone_minute) > 59 then
        return nil
    end
    local offset = (tonumber(zone_hour) * 60 + tonumber(zone_minute)) * MINUTE_S
    return from * 86400 + hour * 3600 + minute * MINUTE_S + second - (sign == "+" and offset or -offset)
end

-- The words of a comment that asks for planning; nil for all others, those of Gridtide's own jobs among them.
function gridtide.parse_words(comment)
    local text, at = ";" .. comment, 1
    repeat
        local _, last = text:find("[%s;]gridtide:", at)
        if last == nil then
            return nil
        end
        at = last + 1
    until text:sub(at, at + 3) ~= "key="
    local stated = text:sub(at):match("^[^;]*")
    local words = {}
    for pair in stated:gmatch("[^,]+") do
        local name, value = pair:match("^%s*(.-)%s*=%s*(.-)%s*$")
        if pair:match("%S") then
            if name == nil or name == "" or value == "" then
                fail("'%s' is not name=value, such as duration=4h", pair)
            end
            name = name:lower():gsub("-", "_")
            if not IS_WORD[name] then
                fail("%s: not a word that can be stated; known: %s", name, table.concat(gridtide.WORDS, ", "))
            elseif words[name] ~= nil then
                fail("%s is stated twice", name)
            end
            words[name] = value
        end
    end
    return words
end

-- A word as a number of seconds; nil where it is not stated.
local function number_of(words, name, parse, kind)
    local text = words[name]
    local number = text and parse(text)
    if text and not number then
        fail("%s: '%s' is not a %s", name, text, kind)
    end
    return number
end

local function time_of(words, name)
    return number_of(words, name, gridtide.parse_instant, "time; write it like 2026-12-04T09:00:00Z")
end

local function seconds_of(words, name)
    return number_of(words, name, gridtide.parse_duration, "duration; write it like 4h, 90m or 1h30m")
end

-- The latest safe start that the words leave, in epoch seconds; limit_s is the time limit, nil where there is none.
function gridtide.latest_start(words, limit_s, now)
    local deadline, patience = time_of(words, "deadline"), seconds_of(words, "patience")
    if (deadline == nil) == (patience == nil) then
        fail("state either deadline (finish by) or patience (how long it may wait)")
    end
    local duration = seconds_of(words, "duration") or limit_s
    if duration == nil then
        fail("duration: neither stated nor given as a time limit; state how long it runs, such as duration=4h")
    end
    local long = seconds_of(words, "duration_p95") or duration
    if long < duration then
        fail("duration_p95: must be at least the duration")
    end
    deadline = deadline or now + duration + patience
    local latest, start_by = deadline - long, time_of(words, "start_by")
    local earliest = math.max(now, time_of(words, "not_before") or now)
    if deadline - duration < earliest then
        fail("its deadline cannot be met any more; it starts as soon as it can")
    end
    return math.max(earliest, math.min(latest, start_by or latest) - gridtide.GUARD_BEFORE_S)
end

local function is_set(number)
    return number ~= nil and number > 0 and number < NO_VAL
end

local function guard(job_desc, now)
    local words = job_desc.comment and gridtide.parse_words(job_desc.comment)
    if words == nil or is_set(job_desc.begin_time) or job_desc.priority == 0 then
        return nil
    end
    if job_desc.array_inx ~= nil then
        fail("job arrays are not planned; submit their tasks one by one")
    end
    local limit_s = is_set(job_desc.time_limit) and job_desc.time_limit * MINUTE_S or nil
    local latest = gridtide.latest_start(words, limit_s, now)
    if latest > now then
        job_desc.begin_time = latest
    end
    return latest
end

-- Sets the start of a job that asks for planning. Whatever goes wrong, the job stays as it is, and no error gets out.
function gridtide.submit(job_desc, now)
    local is_done, result = pcall(guard, job_desc, now or os.time())
    if is_done then
        return result
    end
    if type(result) == "table" then
        pcall(slurm.log_user, "gridtide: not planned: %s", result.message)
    else
        pcall(slurm.log_error, "gridtide: %s", tostring(result))
    end
    return nil
end

-- Where the site's own job_submit.lua loads this file, its functions stay the ones that Slurm calls.
if slurm_job_submit == nil then
    function slurm_job_submit(job_desc, _part_list, _submit_uid)
        gridtide.submit(job_desc)
        return slurm.SUCCESS
    end
end

if slurm_job_modify == nil then
    function slurm_job_modify(_job_desc, _job_rec, _part_list, _modify_uid)
        return slurm.SUCCESS
    end
end

return gridtide
