-- Pub/Sub pushes for wrk, each message with an id of its own. Arguments: the run's name, the base64 of the payload.

local threads = 0

function setup(thread)
    thread:set("number", threads)
    threads = threads + 1
end

function init(arguments)
    sent = 0
    run = arguments[1]
    second = 0
    headers = { ["Content-Type"] = "application/json" }
    -- Formatting is wrk's own work, on the server's machine: the constant parts are made once.
    tail = '","data":"' .. arguments[2] .. '"},"subscription":"projects/p-bench/subscriptions/bench"}'
end

function request()
    local now = os.time()
    if now ~= second then
        second = now
        published = os.date("!%Y-%m-%dT%H:%M:%SZ", now)
    end
    sent = sent + 1
    local id = run .. "-" .. number .. "-" .. sent
    local body = '{"message":{"messageId":"' .. id .. '","message_id":"' .. id
        .. '","publishTime":"' .. published .. '","publish_time":"' .. published .. tail
    return wrk.format("POST", "/", headers, body)
end

function done(summary, latency, requests)
    local errors = summary.errors
    io.write(string.format(
        'RESULT {"answers": %d, "seconds": %.6f, "refused": %d, "broken": %d, "timeouts": %d, "p50_ms": %.3f, "p99_ms": %.3f}\n',
        summary.requests, summary.duration / 1e6, errors.status,
        errors.connect + errors.read + errors.write, errors.timeout,
        latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))
end
