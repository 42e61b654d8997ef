-- Asks Session Monitor's sidecar whether a request may pass. Loaded by haproxy.cfg, which is beside it.

-- session-monitor gateway --session-id cookie:session
local CHECK = "http://127.0.0.1:8180/check"
-- In ms; HAProxy asks four times before it gives up.
local TIMEOUT = 1250

-- What a client could add is taken away; of the others, what speaks of the body (which stays here) and of the connection.
local NOT_PASSED_ON = {
    "x-forwarded-uri", "x-forwarded-method", "content-length", "transfer-encoding", "content-type", "expect", "host",
    "connection", "keep-alive", "proxy-connection", "te", "trailer", "upgrade", "http2-settings",
}

-- What HAProxy writes itself.
local NOT_RETURNED = { ["content-length"] = true, ["transfer-encoding"] = true, ["connection"] = true, ["keep-alive"] = true }

core.register_action("session_monitor", { "http-req" }, function(txn)
    local headers = txn.http:req_get_headers()
    local host = headers["host"]
    for _, name in ipairs(NOT_PASSED_ON) do
        headers[name] = nil
    end
    headers["x-original-uri"] = { txn.sf:pathq() }
    headers["x-original-method"] = { txn.sf:method() }
    headers["x-forwarded-for"] = { txn.sf:src() }
    headers["x-forwarded-proto"] = { txn.f:ssl_fc() == 1 and "https" or "http" }
    headers["x-forwarded-host"] = host

    local answer = core.httpclient():get{ url = CHECK, headers = headers, timeout = TIMEOUT }
    local said = answer.headers or {}
    if answer.status == 200 and said["x-session-id"] then
        txn:set_var("txn.session_id", said["x-session-id"][0])
        if said["session-monitor-view"] then
            txn:set_var("txn.view", said["session-monitor-view"][0])
        end
        txn:set_var("txn.session_monitor", "admitted")
    elseif said["cache-control"] and said["cache-control"][0] == "no-store" then
        -- The sidecar's refusal, and none of HAProxy's own answers where it can't be reached: those are not of its making.
        local reply = txn:reply{ status = answer.status, reason = answer.reason, body = answer.body }
        for name, values in pairs(said) do
            if not NOT_RETURNED[name] then
                for _, value in pairs(values) do
                    reply:add_header(name, value)
                end
            end
        end
        txn:done(reply)
    end
end)
