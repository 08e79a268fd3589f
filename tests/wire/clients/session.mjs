// A client of the WebService as programs on Node are: controller, session, WebSocket.
//
//   node session.mjs CONTROLLER USER PASSWORD
//
// Says in JSON, a line each, what it is told: "controller", "open", "answer", "event", "kept_alive"
// (how often), "strange" (what it cannot understand) and "closed". Each line of its standard input is an
// invoke of its own, {"operation": …, "argument": …}; it leaves when there are no more. The folder whose
// `node_modules` has `ws` is in NODE_CLIENTS.

import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const { WebSocket } = createRequire(`${process.env.NODE_CLIENTS}/`)("ws");
const [controller, user, password] = process.argv.slice(2);
const KEEP_ALIVE_EVERY = 5_000;
const PATIENCE = 10_000;
// The invokeID that marks an event.
const EVENT = 99_999;

function say(what, value) {
    process.stdout.write(`${JSON.stringify({ [what]: value })}\n`);
}

async function get(url, headers) {
    const signal = AbortSignal.timeout(PATIENCE);
    const response = await fetch(url, { headers, signal });
    if (response.status !== 200 || !response.headers.get("content-length")) {
        throw new Error(`${url.pathname}: ${response.status} ${await response.text()}`);
    }
    return response.json();
}

async function connect() {
    const { redirect } = await get(new URL("/controller/client/ucws?ucsid=local", controller), {});
    say("controller", redirect);
    const { sessionid } = await get(new URL("/ws/client/createsession?clientappid=15", redirect), {
        "X-Ucsid": "local",
        Authorization: `Basic ${btoa(`${user}:${password}`)}`,
    });
    const address = new URL(`/ws/client/websocket/?x-ucsessionid=${sessionid}`, redirect);
    address.protocol = address.protocol === "https:" ? "wss:" : "ws:";
    return new WebSocket(address);
}

function hear(data, isBinary) {
    const heard = isBinary ? null : JSON.parse(data.toString());
    if (!Array.isArray(heard) || heard.length !== 1) {
        say("strange", data.toString());
        return;
    }
    const [message] = heard;
    if (message.invoke?.invokeID === EVENT) {
        say("event", message.invoke);
    } else if (message.result || message.error || message.reject) {
        say("answer", message);
    } else {
        say("strange", message);
    }
}

function invoke(socket, invokeID, operationName, argument) {
    socket.send(JSON.stringify({ invoke: { invokeID, operationID: 0, operationName, argument } }));
}

const socket = await connect();
socket.binaryType = "nodebuffer";
let kept = 0;
const keepAlive = setInterval(() => {
    invoke(socket, EVENT, "asnTransportKeepAlive", { dummy: null });
    kept += 1;
    say("kept_alive", kept);
}, KEEP_ALIVE_EVERY);
socket.on("message", hear);
socket.on("error", (error) => say("strange", error.message));
socket.on("close", (code) => {
    clearInterval(keepAlive);
    say("closed", code);
    process.exit();
});
socket.on("open", () => {
    say("open", socket.url.includes("wss:"));
    let last = 0;
    const wishes = createInterface({ input: process.stdin });
    wishes.on("line", (line) => {
        const { operation, argument } = JSON.parse(line);
        last += 1;
        invoke(socket, last, operation, argument);
    });
    wishes.on("close", () => socket.close(1000));
});
