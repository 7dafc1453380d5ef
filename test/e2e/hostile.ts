import { spawn } from "node:child_process"
import {
  appendFileSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from "node:fs"
import { connect as connectTcp, type Socket } from "node:net"
import { join } from "node:path"
import { setTimeout as sleep } from "node:timers/promises"
import { pick, random } from "../random.ts"

/**
 * A program that an agent's loop runs against its own supervisor: does at random, for some time,
 * all that hurts. Bounded, so that the machine survives: 300 processes, 200 MB of memory, 60 MB of
 * files. `node hostile.ts SEED SECONDS LOG TREE OUTSIDE...`; OUTSIDE are pids of what it must not
 * reach, and none where nothing keeps it from them. A long file: a list of acts.
 */
const [seedText = "1", seconds = "1", log = "/dev/null", tree = ".", ...outside] =
  process.argv.slice(2)
const seed = Number(seedText)
const chance = random(seed)
const many = (max: number): number => Math.floor(chance() * max)
const url = new URL(process.env.BLACKBOX5_AGENT_URL ?? "http://127.0.0.1:1")
const token = process.env.BLACKBOX5_AGENT_TOKEN ?? ""
const bin = (process.env.PATH ?? "").split(":")[0] ?? ""
const home = process.env.HOME ?? "."
const processesMax = 300
/** Without it nothing would be left to be hostile. */
const loop = Number(process.env.HOSTILE_LOOP)
const endsAtMs = Date.now() + Number(seconds) * 1000

/** What cannot be done is no reason to stop. */
const attempt = <T>(act: () => T): T | undefined => {
  try {
    return act()
  } catch {
    return undefined
  }
}
const pids = (): number[] =>
  readdirSync("/proc").flatMap((name) =>
    /^\d+$/.test(name) && Number(name) !== process.pid ? [Number(name)] : [],
  )
const turns = (): string[] => [
  ...new Set(
    pids().flatMap(
      (pid) =>
        /BLACKBOX5_TURN=(t-[\w-]+)/.exec(
          attempt(() => readFileSync(`/proc/${pid}/environ`, "utf8")) ?? "",
        )?.[1] ?? [],
    ),
  ),
  "t-nobody",
]

const words = (): string =>
  pick(chance, [
    "",
    "x".repeat(many(3000)),
    "\u0000\u202e\ud800",
    "../../etc",
    "💥".repeat(many(500)),
    "'; rm -rf /",
    "wolf",
  ]) ?? ""
/** Any JSON. */
function value(depth = 0): unknown {
  const kind = many(depth > 3 ? 5 : 8)
  if (kind === 0) return null
  if (kind === 1) return chance() < 0.5
  if (kind === 2) return pick(chance, [0, -1, 1e308, 2 ** 53, 0.1, many(1e9)])
  if (kind < 5) return words()
  if (kind === 5) return Array.from({ length: many(20) }, () => value(depth + 1))
  return Object.fromEntries(
    Array.from({ length: many(10) }, () => [words().slice(0, 20), value(depth + 1)]),
  )
}
/** What the port knows, with a field that is wrong now and then. */
const hook = (): Record<string, unknown> => ({
  hook_event_name: pick(chance, [
    "UserPromptSubmit",
    "PreToolUse",
    "PostToolUse",
    "PostToolBatch",
    "Stop",
    "StopFailure",
    "Nothing",
  ]),
  tool_name: words(),
  tool_input: value(),
  last_assistant_message: pick(chance, ["Status: PARTIAL", "Status: BLOCKED", words()]),
  error: pick(chance, ["unknown", "overloaded", words()]),
  transcript_path: pick(chance, ["/dev/zero", "/proc/self/mem", join(home, "long.jsonl"), words()]),
  background_tasks: value(),
  ...(chance() < 0.2 && { [words().slice(0, 20)]: value() }),
})
const record = (): unknown => ({
  resourceLogs: [
    {
      scopeLogs: [
        {
          logRecords: Array.from({ length: many(50) }, () => ({
            body: value(),
            attributes: value(),
          })),
        },
      ],
    },
  ],
})
const routes: readonly (readonly [method: string, path: () => string, body: () => unknown])[] = [
  ["POST", () => "/hooks", hook],
  ["POST", () => `/hooks/opening/${pick(chance, [0, 1, 99, -1, "x"])}`, hook],
  ["POST", () => "/v1/logs", record],
  ["POST", () => "/nested/logs", record],
  [
    "POST",
    () => `/turns/${pick(chance, turns())}`,
    () => ({ pid: pick(chance, pids()), startTicks: many(1e6) }),
  ],
  ["POST", () => `/turns/${pick(chance, turns())}/end`, () => ({ code: many(300), ms: many(1e9) })],
  ["POST", () => `/mcp/${encodeURIComponent(words().slice(0, 50))}`, value],
  ["POST", () => "/v1/messages", () => ({ to: ["@operators"], text: words(), urgency: "now" })],
  [
    "POST",
    () => "/v1/instances",
    () => ({ name: `cub-${many(9)}`, goal: words(), budget: { tokens: 10 } }),
  ],
  [
    "POST",
    () => pick(chance, ["/v1/instances:stop", "/v1/instances:resume", "/v1/instances:pause"]) ?? "",
    () => ({ names: ["ann", "ben"] }),
  ],
  [
    "GET",
    () =>
      pick(chance, [
        "/v1/fleet",
        "/v1/events?limit=500",
        "/v1/instances",
        "/v1/audit",
        "/v1/messages",
      ]) ?? "",
    () => undefined,
  ],
  ["PATCH", () => `/v1/instances/${pick(chance, ["wolf", "ann", "x"])}`, value],
]
async function ask(method: string, path: string, body: string | undefined): Promise<void> {
  const signal = AbortSignal.timeout(3000)
  const headers = { authorization: `Bearer ${token}`, "content-type": "application/json" }
  const answer = await fetch(new URL(path, url), {
    method,
    headers,
    signal,
    ...(body !== undefined && method !== "GET" && { body }),
  })
  await answer.arrayBuffer()
}
const raw = (bytes: string): Promise<void> =>
  new Promise((resolve) => {
    const socket = connectTcp(Number(url.port), "127.0.0.1", () => socket.write(bytes))
    socket
      .on("error", () => {})
      .on("close", resolve)
      .resume()
    socket.setTimeout(1000, () => socket.destroy())
  })
const hold = async (count: number, bytes: string, ms: number): Promise<void> => {
  const sockets: Socket[] = []
  for (let index = 0; index < count; index++)
    sockets.push(connectTcp(Number(url.port), "127.0.0.1").on("error", () => {}))
  for (const socket of sockets) socket.write(bytes)
  await sleep(ms)
  for (const socket of sockets) socket.destroy()
}
const start = (command: string, ...args: string[]): void => {
  if (pids().length > processesMax) return
  spawn(command, args, { stdio: "ignore", detached: true })
    .on("error", () => {})
    .unref()
}
const git = (...lines: string[]): void => {
  mkdirSync(join(tree, ".git"), { recursive: true })
  writeFileSync(join(tree, ".git/config"), `${["[core]", ...lines].join("\n")}\n`)
}

const acts: Readonly<Record<string, () => unknown>> = {
  async fuzz() {
    const one = async (): Promise<void> => {
      const [method, path, body] = pick(chance, routes) ?? ["GET", () => "/", value]
      const sent = chance() < 0.2 ? value() : body()
      await ask(
        chance() < 0.1 ? "DELETE" : method,
        path(),
        chance() < 0.1 ? words() : JSON.stringify(sent),
      ).catch(() => {})
    }
    for (let round = 0; round < 10; round++) await Promise.all(Array.from({ length: 20 }, one))
  },
  async forge() {
    for (const turn of turns())
      await ask("POST", `/turns/${turn}/end`, '{"code":0,"ms":1}').catch(() => {})
  },
  async large() {
    const body = JSON.stringify({
      hook_event_name: "PostToolUse",
      tool_input: "y".repeat(30_000_000),
    })
    await Promise.all(Array.from({ length: 4 }, () => ask("POST", "/hooks", body).catch(() => {})))
  },
  async deep() {
    await ask(
      "POST",
      "/hooks",
      `{"hook_event_name":"Stop","background_tasks":${"[".repeat(200_000)}`,
    ).catch(() => {})
    await ask("POST", "/v1/instances", '{"a":'.repeat(100_000)).catch(() => {})
  },
  async broken() {
    const head = `POST /hooks HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${token}\r\n`
    const kinds = [
      "\u0000\u0001\u0002garbage\r\n\r\n",
      `${head}Content-Length: 99999999999999999999\r\n\r\n{}`,
      `${head}Content-Length: 10\r\n\r\n{}`,
      `${head}Transfer-Encoding: chunked\r\n\r\nffffffff\r\n{}`,
      `${head}Content-Length: 5\r\nContent-Length: 6\r\n\r\n{}`,
      `GET ${"/".repeat(60_000)} HTTP/1.1\r\n\r\n`,
      `${head}${"X: y\r\n".repeat(5000)}\r\n`,
      `GET /v1/link HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${token}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n`,
    ]
    await Promise.all(kinds.map(raw))
  },
  loris: () => hold(300, "POST /hooks HTTP/1.1\r\nX", 3000),
  crowd: () => hold(1500, "", 500),
  signals() {
    if (outside.length === 0) return
    for (const pid of [
      ...pids().filter((pid) => pid !== loop && chance() < 0.1),
      ...outside.map(Number),
    ])
      attempt(() =>
        process.kill(
          pid,
          pick(chance, ["SIGSTOP", "SIGKILL", "SIGTERM", "SIGCONT", "SIGUSR1"] as const),
        ),
      )
  },
  forks() {
    for (let count = 0; count < 60; count++) start("env", "-i", "setsid", "-f", "sleep", "300")
  },
  memory: () =>
    start(process.execPath, "-e", "const b = Buffer.alloc(200e6, 1); setTimeout(() => b, 2000)"),
  spin: () => start("timeout", "2", "sh", "-c", "while :; do :; done"),
  writes() {
    for (const path of [
      bin,
      join(bin, ".."),
      join(bin, "../status"),
      join(bin, "../../../.."),
      join(home, "../config"),
      "/",
      "/proc/1",
      tree,
    ])
      for (const name of [
        "turn.json",
        "run.json",
        "claude",
        "policy.yaml",
        "token",
        "blackbox5.db",
      ])
        if (path !== tree) attempt(() => writeFileSync(join(path, name), words()))
  },
  fill() {
    for (let part = 0; part < 30; part++)
      attempt(() => writeFileSync(join(tree, `fill-${part}`), Buffer.alloc(1_000_000)))
  },
  free() {
    for (let part = 0; part < 30; part++) attempt(() => unlinkSync(join(tree, `fill-${part}`)))
  },
  output() {
    for (let part = 0; part < 40; part++)
      attempt(() => process.stdout.write(`${"z".repeat(many(200_000))}\n${words()}\n`))
  },
  bin: () => attempt(() => rmSync(bin, { recursive: true })),
  transcripts() {
    const line =
      '{"type":"assistant","message":{"id":"x","usage":{"input_tokens":1e9,"output_tokens":-1}}}\n'
    attempt(() => appendFileSync(join(home, "long.jsonl"), line.repeat(100_000)))
    for (const name of attempt(() =>
      readdirSync(join(home, ".claude/projects"), { recursive: true, encoding: "utf8" }),
    ) ?? [])
      if (name.endsWith(".jsonl"))
        attempt(() =>
          appendFileSync(join(home, ".claude/projects", name), line.repeat(many(1000)) + words()),
        )
    if ((attempt(() => readFileSync(join(home, "long.jsonl")).length) ?? 0) > 30e6)
      attempt(() => unlinkSync(join(home, "long.jsonl")))
  },
  nasty() {
    git(
      "  fsmonitor = sleep 1000",
      "  hooksPath = /tmp",
      '[filter "x"]',
      "  clean = sleep 1000",
      "  required",
      "[include]",
      "  path = /dev/zero",
    )
    attempt(() => writeFileSync(join(tree, ".gitattributes"), "* filter=x\n"))
  },
  head() {
    attempt(() => rmSync(join(tree, ".git/HEAD"), { force: true }))
    attempt(() => symlinkSync("/dev/zero", join(tree, ".git/HEAD")))
  },
  fifo() {
    attempt(() => rmSync(join(tree, ".git/index"), { force: true }))
    start("mkfifo", join(tree, ".git/index"), join(tree, ".gitignore"), join(tree, "README.md"))
  },
  mend() {
    attempt(() => rmSync(join(tree, ".git"), { recursive: true, force: true }))
    start("git", "init", "-q", tree)
  },
  async away() {
    const names = readdirSync(tree)
    for (const name of names)
      attempt(() => renameSync(join(tree, name), join(tree, `${name}.away`)))
    await sleep(many(500))
    for (const name of names)
      attempt(() => renameSync(join(tree, `${name}.away`), join(tree, name)))
  },
  async race() {
    for (let round = 0; round < 100; round++) {
      attempt(() => rmSync(join(tree, "link"), { recursive: true, force: true }))
      attempt(() =>
        round % 2
          ? mkdirSync(join(tree, "link"))
          : symlinkSync(pick(chance, ["/", "/proc", "/dev", home]) ?? "/", join(tree, "link")),
      )
      await sleep(1)
    }
  },
  sessions: () =>
    Promise.all(
      Array.from({ length: 50 }, () =>
        ask("POST", "/mcp/plain", '{"jsonrpc":"2.0","id":1,"method":"initialize"}').catch(() => {}),
      ),
    ),
}

process.on("uncaughtException", () => {}).on("SIGTERM", () => {})
const lane = async (): Promise<void> => {
  while (Date.now() < endsAtMs) {
    const name = pick(chance, Object.keys(acts)) ?? "fuzz"
    attempt(() => appendFileSync(log, `${name}\n`))
    await Promise.race([
      Promise.resolve(attempt(() => acts[name]?.())).catch(() => {}),
      sleep(10_000),
    ])
    await sleep(many(50))
  }
}
await Promise.all(Array.from({ length: 6 }, lane))
process.exit(0)
