import { spawnSync } from "node:child_process"
import { existsSync, readdirSync, readFileSync } from "node:fs"
import { dirname, join, relative } from "node:path"
import { Client } from "@modelcontextprotocol/sdk/client/index.js"
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { z } from "zod"
import { type Reply, say, use } from "../model/model.ts"
import { type Person, people } from "./person.ts"
import { eventually, makeWorld, type World } from "./world.ts"

/**
 * An agent, or the repository that it works in, wants the secret of an MCP server: it plants what
 * that program would run or read where the agent may write. Then its own supervisor starts the
 * programs.
 */

const secret = "s3cret-of-the-shop"
const reference = `$${"{SHOP_TOKEN}"}`
/** An MCP server without a library, which tells how it was started. */
const lookServer = `
const told = { args: process.argv.slice(2), env: process.env, directory: process.cwd(), files: require("node:fs").readdirSync(".") }
const results = {
  initialize: { protocolVersion: "2025-11-25", capabilities: { tools: {} }, serverInfo: { name: "look", version: "1" } },
  "tools/list": { tools: [{ name: "look", inputSchema: { type: "object" } }] },
  "tools/call": { content: [{ type: "text", text: JSON.stringify(told) }] },
}
require("node:readline").createInterface({ input: process.stdin }).on("line", (line) => {
  const { id, method } = JSON.parse(line)
  if (id !== undefined) process.stdout.write(JSON.stringify({ jsonrpc: "2.0", id, result: results[method] ?? {} }) + "\\n")
})
`

/**
 * Where something is planted: the tree, the home directory, and a directory above both and above
 * the state directory.
 */
type Soil = "tree" | "home" | "above"
interface Attempt {
  readonly name: string
  readonly command: string
  readonly args: readonly string[]
  /** Files by `soil/path`. */
  readonly planted: (thief: Thief) => Readonly<Record<string, string>>
}
/** Programs that write what they know of the secret to a file of the attempt's own. */
interface Thief {
  readonly sh: string
  readonly cjs: string
  readonly py: string
  /** Where the file stands, as a path. */
  at(soil: Soil, path: string): string
}

/** Programs that an honest person would name: in a directory of their own that no agent writes. */
const honest = (name: string): string => join(world.directory, "honest", name)
const fakePackage = (name: string, bin: string): string =>
  JSON.stringify({ name, version: "1.0.0", bin: { [name]: bin } })

/**
 * Where python3 of this machine looks below the home directory; it says so whether or not it is
 * there.
 */
const userSite = (): string => {
  const { stdout } = spawnSync("python3", ["-m", "site", "--user-site"], {
    env: world.env,
    encoding: "utf8",
  })
  return relative(world.env.HOME ?? "", stdout?.trim() || join(world.env.HOME ?? "", "no python3"))
}

const attempts = (): readonly Attempt[] => [
  {
    name: "npx finds it in node_modules/.bin of the tree",
    command: "npx",
    args: ["--no", "--offline", "planted-bin"],
    planted: ({ sh }) => ({ "tree/node_modules/.bin/planted-bin": sh }),
  },
  {
    name: "npx finds it in node_modules/.bin of a directory above",
    command: "npx",
    args: ["--no", "--offline", "planted-above"],
    planted: ({ sh }) => ({ "above/node_modules/.bin/planted-above": sh }),
  },
  {
    name: "npx finds it in a workspace root above, which names the state directory's",
    command: "npx",
    args: ["--no", "--offline", "planted-above"],
    planted: ({ sh }) => ({
      "above/node_modules/.bin/planted-above": sh,
      "above/package.json": JSON.stringify({
        name: "above",
        workspaces: ["state/*", "state/*/*", "state/*/*/*"],
      }),
    }),
  },
  {
    name: "npx takes the package in the tree for the one that is named",
    command: "npx",
    args: ["--no", "--offline", "planted-package"],
    planted: ({ sh }) => ({
      "tree/package.json": fakePackage("planted-package", "thief.sh"),
      "tree/thief.sh": sh,
    }),
  },
  {
    name: "the tree's .npmrc names a script shell",
    command: "npx",
    args: ["-y", "--offline", honest("package")],
    planted: ({ sh, at }) => ({
      "tree/.npmrc": `script-shell=${at("tree", "shell.sh")}\n`,
      "tree/shell.sh": sh,
    }),
  },
  {
    name: "the tree's .npmrc has options for node",
    command: "npx",
    args: ["-y", "--offline", honest("package")],
    planted: ({ cjs, at }) => ({
      "tree/.npmrc": `node-options=--require=${at("tree", "preload.cjs")}\n`,
      "tree/preload.cjs": cjs,
    }),
  },
  {
    name: "the home directory's .npmrc names a script shell",
    command: "npx",
    args: ["-y", "--offline", honest("package")],
    planted: ({ sh, at }) => ({
      "home/.npmrc": `script-shell=${at("home", "shell.sh")}\n`,
      "home/shell.sh": sh,
    }),
  },
  {
    name: "python3 -m finds a module in the tree",
    command: "python3",
    args: ["-m", "planted_module"],
    planted: ({ py }) => ({ "tree/planted_module.py": py }),
  },
  {
    name: "python3 -m finds a module of the tree under the name of one of its own",
    command: "python3",
    args: ["-m", "json.tool", "--help"],
    planted: ({ py }) => ({ "tree/json/__init__.py": py, "tree/json/tool.py": "" }),
  },
  {
    name: "python3 imports what stands in the user's site directory",
    command: "python3",
    args: ["-m", "json.tool", "--help"],
    planted: ({ py }) => ({ [`home/${userSite()}/usercustomize.py`]: py }),
  },
  {
    name: "node requires a module that is missing from the home directory",
    command: "node",
    args: [honest("optional.cjs")],
    planted: ({ cjs }) => ({ "home/.node_modules/optional-thing.js": cjs }),
  },
  {
    name: "node reads an .env with NODE_OPTIONS in the tree",
    command: "node",
    args: [honest("dotenv.cjs")],
    planted: ({ cjs, at }) => ({
      "tree/.env": `NODE_OPTIONS=--require=${at("tree", "preload.cjs")}\n`,
      "tree/preload.cjs": cjs,
    }),
  },
  {
    name: "a login shell reads the profile of the home directory",
    command: "bash",
    args: ["-lc", "true"],
    planted: ({ sh }) => ({ "home/.bash_profile": sh.replace("#!/bin/sh\n", "") }),
  },
  {
    name: "git obeys the home directory's configuration",
    command: "git",
    args: ["blackbox"],
    planted: ({ sh, at }) => ({
      "home/.gitconfig": `[alias]\n\tblackbox = "!${at("home", "thief.sh")}"\n`,
      "home/thief.sh": sh,
    }),
  },
  {
    name: "git obeys the configuration of the repository around it",
    command: "git",
    args: ["status"],
    planted: ({ sh, at }) => ({
      "tree/.git/HEAD": "ref: refs/heads/main\n",
      "tree/.git/objects/.keep": "",
      "tree/.git/refs/.keep": "",
      "tree/.git/config": `[core]\n\trepositoryformatversion = 0\n\tfsmonitor = ${at("tree", "thief.sh")}\n`,
      "tree/thief.sh": sh,
    }),
  },
  {
    name: "git obeys the configuration of a repository above",
    command: "git",
    args: ["status"],
    planted: ({ sh, at }) => ({
      "above/.git/HEAD": "ref: refs/heads/main\n",
      "above/.git/objects/.keep": "",
      "above/.git/refs/.keep": "",
      "above/.git/config": `[core]\n\trepositoryformatversion = 0\n\tfsmonitor = ${at("above", "thief.sh")}\n`,
      "above/thief.sh": sh,
    }),
  },
  {
    name: "PATH has entries that are not absolute, and an empty one",
    command: "planted-on-path",
    args: [],
    planted: ({ sh }) => ({ "tree/bin/planted-on-path": sh, "tree/planted-on-path": sh }),
  },
  {
    name: "PATH has a directory of the tree",
    command: "planted-in-tools",
    args: [],
    planted: ({ sh }) => ({ "tree/tools/planted-in-tools": sh }),
  },
  {
    name: "PATH has what npm puts there for the packages above",
    command: "planted-by-npm",
    args: [],
    planted: ({ sh }) => ({ "home/node_modules/.bin/planted-by-npm": sh }),
  },
]

let world: World
let chosenPath: string
let door: { port: number; token: string }
const soils = (): Record<Soil, string> => ({
  tree: world.codeRoot,
  home: world.env.HOME ?? "",
  above: world.directory,
})
const lootOf = (index: number): string => join(world.directory, "loot", String(index))
const nameOf = (index: number): string => `server-${index}`

/** What a program writes that was not meant to run: whether it had the secret. */
function thiefOf(index: number): Thief {
  const loot = lootOf(index)
  return {
    sh: `#!/bin/sh\nprintf '%s' "had \${TOKEN-nothing}" > '${loot}'\n`,
    cjs: `require("node:fs").writeFileSync(${JSON.stringify(loot)}, "had " + process.env.TOKEN)\n`,
    py: `import os\nopen(${JSON.stringify(loot)}, "w").write("had " + os.environ.get("TOKEN", "nothing"))\n`,
    at: (soil, path) => join(soils()[soil], path),
  }
}

let steps = 0
const script = (): Reply =>
  steps++ === 0
    ? use([{ name: "Bash", input: { command: "sleep 100000", timeout: 600_000 } }])
    : say("Status: PARTIAL")

/** Writes what an agent could write, as the user that agents are. */
async function plantAll(files: Readonly<Record<string, string>>): Promise<void> {
  for (const [path, text] of Object.entries(files)) {
    const [soil = "tree", ...rest] = path.split("/")
    await put(join(soils()[soil as Soil], ...rest), text) // the table's own keys
  }
}
async function put(file: string, text: string): Promise<void> {
  await world.run("mkdir", ["-p", dirname(file)])
  world.write(file, text, 0o755)
}

const toldSchema = z.object({
  args: z.array(z.string()),
  env: z.record(z.string(), z.string()),
  directory: z.string(),
  files: z.array(z.string()),
})
/** What a program tells of itself, in a session of its own at the supervisor's port. */
async function look(name: string) {
  const { port, token } = door
  const client = new Client({ name: "claude", version: "1" })
  const transport = new StreamableHTTPClientTransport(
    new URL(`http://127.0.0.1:${port}/mcp/${name}`),
    {
      requestInit: { headers: { authorization: `Bearer ${token}` } },
    },
  )
  await client.connect(transport)
  const { content } = z
    .object({ content: z.array(z.object({ text: z.string() })) })
    .parse(await client.callTool({ name: "look", arguments: {} }))
  await transport.terminateSession()
  await client.close()
  return toldSchema.parse(JSON.parse(content[0]?.text ?? ""))
}

async function begin(person: Person): Promise<void> {
  steps = 0
  world = await makeWorld(script, {
    person,
    env: {
      SHOP_TOKEN: secret,
      LC_TIME: "C",
      TZ: "UTC",
      HTTPS_PROXY: "http://127.0.0.1:9",
      SSH_AUTH_SOCK: "/agent",
    },
  })
  const { codeRoot, env } = world
  const [, nodeDirectory = ""] = (env.PATH ?? "").split(":")
  chosenPath = `${nodeDirectory}:/usr/bin`
  env.PATH = [
    "./bin",
    "",
    "node_modules/.bin",
    join(codeRoot, "tools"),
    join(env.HOME ?? "", "node_modules/.bin"),
    env.PATH,
  ].join(":")
  for (const [path, text] of Object.entries({
    "package/package.json": fakePackage("honest-server", "server.cjs"),
    "package/server.cjs": `#!/usr/bin/env node\n${lookServer}`,
    "look.cjs": lookServer,
    "optional.cjs": `try {\n  require("optional-thing")\n} catch {}\n${lookServer}`,
    "dotenv.cjs": `try {\n  process.loadEnvFile()\n} catch {}\nrequire("node:child_process").spawnSync(process.execPath, ["-e", ""])\n${lookServer}`,
  }))
    await put(honest(path), text)
  const token = { TOKEN: reference }
  const servers = Object.fromEntries(
    attempts().map(({ command, args }, index) => [nameOf(index), { command, args, env: token }]),
  )
  world.write(
    join(env.BLACKBOX5_CONFIG ?? "", "mcp-servers.yaml"),
    JSON.stringify({
      servers: {
        ...servers,
        look: { command: "node", args: [honest("look.cjs"), "{tree}", "{project}"], env: token },
        packaged: { command: "npx", args: ["-y", "--offline", honest("package")], env: token },
        inside: { command: join(world.projectOf("shop"), "server.sh"), args: [], env: token },
        nowhere: { command: "no-such-program", args: [], env: token },
        chosen: {
          command: "node",
          args: [honest("look.cjs")],
          env: { ...token, HOME: env.HOME, PATH: chosenPath },
        },
      },
    }),
  )
  await world.run("mkdir", [join(world.directory, "loot")])
  await put(join(world.projectOf("shop"), "server.sh"), "#!/bin/sh\n")
  const { call } = await world.connect()
  const { uid } = await call("spawn_instance", { project: "shop", name: "one" })
  await eventually(() => steps > 0, "the agent works", 90)
  const file = join(world.runOf(String(uid)), "status/supervisor.json")
  door = z
    .object({ port: z.int(), token: z.string() })
    .parse(JSON.parse(readFileSync(file, "utf8")))
}

/** Starts one of the programs, and waits until it has answered or ended. */
async function provoke(name: string): Promise<void> {
  const { port, token } = door
  const capabilities = {
    protocolVersion: "2025-11-25",
    capabilities: {},
    clientInfo: { name: "claude", version: "1" },
  }
  const answer = await fetch(`http://127.0.0.1:${port}/mcp/${name}`, {
    method: "POST",
    headers: {
      authorization: `Bearer ${token}`,
      "content-type": "application/json",
      accept: "application/json, text/event-stream",
    },
    body: JSON.stringify({ jsonrpc: "2.0", id: 1, method: "initialize", params: capabilities }),
    signal: AbortSignal.timeout(60_000),
  })
  await answer.text()
}

/** The variables that such a program has, and no others. */
const variables = [
  "GIT_CEILING_DIRECTORIES",
  "HOME",
  "HTTPS_PROXY",
  "NO_PROXY",
  "PATH",
  "SHELL",
  "TERM",
  "TMPDIR",
  "TOKEN",
  "TZ",
]

/** Each user once: the shell has no part in it. */
const users = people.filter(
  ({ user }, at) => people.findIndex((other) => other.user === user) === at,
)

describe.each(users)("a program with a secret, for the $user user", (person) => {
  beforeAll(() => begin(person), 240_000)
  afterAll(() => world[Symbol.asyncDispose]())

  it("runs nothing and reads nothing that an agent planted, in any of these ways", async () => {
    const stolen: Record<string, string> = {}
    for (const [index, { name, planted }] of attempts().entries()) {
      await plantAll(planted(thiefOf(index)))
      await provoke(nameOf(index))
      if (existsSync(lootOf(index))) stolen[name] = readFileSync(lootOf(index), "utf8")
    }
    expect(stolen).toEqual({})
  }, 240_000)

  it("has an empty directory, a home and an environment of its own, in the state directory; the tree is an argument", async () => {
    const { args, env, directory, files } = await look("look")
    expect(args).toEqual([world.projectOf("shop"), world.projectOf("shop")])
    expect(files).toEqual([])
    const own = join(world.state, "programs/look")
    for (const path of [directory, env.HOME, env.TMPDIR])
      expect(path).toMatch(new RegExp(`^${own}/`))
    expect(env).toMatchObject({
      TOKEN: secret,
      SHELL: "/bin/sh",
      TERM: "dumb",
      TZ: "UTC",
      LC_TIME: "C",
    })
    const named = Object.keys(env).filter(
      (name) => !/^(?:BLACKBOX5_INSTANCE|LANG|LANGUAGE|LC_\w+|USER|LOGNAME)$/.test(name),
    )
    expect(named.toSorted()).toEqual(variables)
    for (const entry of (env.PATH ?? "").split(":")) {
      expect(entry).toMatch(/^\//)
      expect(entry).not.toMatch(new RegExp(`node_modules/.bin$|^${world.codeRoot}|^${world.state}`))
    }
    // Its session's directory goes after what is in it.
    const left = () => readdirSync(own).filter((name) => env.TMPDIR?.includes(name))
    await eventually(() => !existsSync(directory) && left().length === 0, "its directory is gone")
  }, 60_000)

  it("is run by npx from its own cache, and keeps its home for the next session", async () => {
    const first = await look("packaged")
    expect(first.env.TOKEN).toBe(secret)
    expect(first.files).toEqual([])
    expect(readdirSync(join(first.env.HOME ?? "", ".npm"))).toContain("_npx")
    expect((await look("packaged")).env.HOME).toBe(first.env.HOME)
  }, 120_000)

  it("gets another HOME and PATH where the person says so", async () => {
    expect((await look("chosen")).env).toMatchObject({ HOME: world.env.HOME, PATH: chosenPath })
  }, 60_000)

  it("is left out, with the reason, where agents could write it or nobody has it", async () => {
    const { call } = await world.connect()
    const told = JSON.stringify(await call("read_events", { name: "one", kinds: ["Warning"] }))
    expect(told).toContain("inside is left out: ")
    expect(told).toContain("stands in a tree that agents write")
    expect(told).toContain("nowhere is left out: there is no program no-such-program on the PATH")
  }, 60_000)
})
