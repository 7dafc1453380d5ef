import { styleText } from "node:util"
import { z } from "zod"
import { unfenced } from "../../src/roles/fence.ts"
import { git, type Layout, layouts, scriptOf } from "../e2e/code-root.ts"
import { eventually, type McpClient, makeWorld, processesOf } from "../e2e/world.ts"
import { type ModelRequest, type Reply, say, use } from "../model/model.ts"

/**
 * `npm run demo`: five minutes in one, on a checkout of each public layout. Two projects, the real
 * claude, an unmodified loop script and the whole control plane; only the language model is
 * scripted, on loopback, so that it needs neither a key nor a network. What it prints is what
 * happened.
 */

const began = performance.now()
const tell = (mark: string, text: string): void => {
  const at = ((performance.now() - began) / 1000).toFixed(1).padStart(5)
  process.stdout.write(`${styleText("dim", `${at} s`)}  ${mark}  ${text}\n`)
}
const you = (text: string): void => tell(styleText("cyan", "you  "), text)
const fleet = (text: string): void => tell(styleText("green", "fleet"), text)
const agent = (text: string): void => tell(styleText("yellow", "agent"), text)

const bash = (command: string, description: string) => ({
  name: "Bash",
  input: { command, description },
})
const commit = (project: string, file: string, line: string, message: string) =>
  bash(
    `cd "$RALF_BLACKBOX5_DIR/5-project-memory/${project}" && echo '${line}' >> ${file} && git add ${file} && git commit -q -m '${message}' && git log -1 --format=%s`,
    message,
  )

/** What the model would think. One session is one iteration. */
function script(): (request: ModelRequest) => Reply {
  const iterations = new Map<string, number>()
  const seen: Record<string, number> = {}
  return (request) => {
    const project = request.text.includes("price list") ? "shop" : "blog"
    const session = request.session ?? ""
    if (!iterations.has(session)) {
      seen[project] = (seen[project] ?? 0) + 1
      iterations.set(session, seen[project])
    }
    const first = request.toolResults.length === 0
    if (project === "blog") {
      if (first)
        return use([
          commit(
            "blog",
            "index.md",
            `- post ${iterations.get(session)}`,
            `Add post ${iterations.get(session)}`,
          ),
        ])
      return say(
        iterations.get(session) === 2
          ? "Both posts are written.\n<promise>COMPLETE</promise>"
          : "One post is written.\nStatus: PARTIAL",
      )
    }
    if (iterations.get(session) === 1) {
      if (first)
        return use([commit("shop", "prices.md", "| tea | 4 dollars |", "Add a price list")])
      if (!request.text.includes("euros")) return use([bash("sleep 0.3", "Check the prices")])
      if (!request.text.includes("Use euros from now on"))
        return use([commit("shop", "prices.md", "| tea | 4 euros |", "Use euros from now on")])
      return say("The price list is in euros.\nStatus: PARTIAL")
    }
    if (first) return use([bash("sleep 4", "Run the tests")])
    return say("The tests pass.\n<promise>COMPLETE</promise>")
  }
}

const inspectedSchema = z.object({
  phase: z.string(),
  why: z.string(),
  usage: z.object({ usd: z.number(), tokens: z.number(), iterations: z.number() }),
  work: z.object({ untrusted: z.object({ path: z.string() }) }).optional(),
})
const look = async ({ call }: McpClient, name: string) =>
  inspectedSchema.parse(await call("inspect_instance", { name }))
const completes = (client: McpClient, name: string, what: string) =>
  eventually(async () => (await look(client, name)).phase === "Completed", what)
/** The commits of an agent, the newest first, from the tree that it works in. */
const commitsOf = async (client: McpClient, name: string, count: number): Promise<string> => {
  const { work } = await look(client, name)
  return work === undefined
    ? ""
    : git(unfenced(work.untrusted.path), "log", `-${count}`, "--format=%h '%s'").replaceAll(
        "\n",
        ", ",
      )
}

async function show(layout: Layout): Promise<void> {
  const policy = "turnsMax: 2\nbilling: metered\n"
  process.stdout.write(`\n${styleText("bold", `A checkout with ${scriptOf(layout)}`)}\n\n`)
  await using world = await makeWorld(script(), { projects: ["shop", "blog"], layout, policy })
  const client = await world.connect()
  const { call } = client

  you("Start an agent on shop that writes a price list, and one on blog that writes two posts.")
  const model = "claude-sonnet-4-5"
  await call("spawn_instance", {
    project: "shop",
    goal: "Write a price list.",
    model,
    budget: { usd: 2 },
  })
  await call("spawn_instance", { project: "blog", goal: "Write two posts.", model })
  fleet("spawned shop-1 and blog-1: each that unmodified script with the real claude in it")
  await eventually(
    async () => (await commitsOf(client, "shop-1", 1)).includes("Add a price list"),
    "the first commit",
  )
  agent(`shop-1 committed ${await commitsOf(client, "shop-1", 1)}`)
  const { phase, why } = await look(client, "shop-1")
  fleet(`shop-1 ${phase}: ${why}`)

  you("Tell shop-1: use euros.   (it is in the middle of its iteration)")
  const told = await call("message_instances", {
    to: ["shop-1"],
    text: "Please use euros, not dollars.",
    urgency: "now",
    waitSeconds: 30,
  })
  const [receipt] = z.array(z.object({ state: z.string(), note: z.string() })).parse(told.receipts)
  fleet(`receipt: ${receipt?.state}, ${receipt?.note}`)
  await eventually(
    async () => (await commitsOf(client, "shop-1", 1)).includes("Use euros"),
    "the answer to the message",
  )
  agent(`shop-1 committed ${await commitsOf(client, "shop-1", 1)}`)

  await eventually(
    () => processesOf(world.directory).some(({ command }) => command.startsWith("sleep 4")),
    "the tests run",
  )
  await pauseAndResume(client, world.directory)

  const status = z.object({ headline: z.string() }).parse(await call("fleet_status"))
  fleet(status.headline)
  for (const name of ["shop-1", "blog-1"]) {
    const { usage } = await look(client, name)
    fleet(
      `${name}: $${usage.usd.toFixed(4)}, ${usage.tokens} tokens, ${usage.iterations} iterations`,
    )
  }
  await call("stop_instances", { names: ["shop-1", "blog-1"], remove: true })
}

async function pauseAndResume(client: McpClient, directory: string): Promise<void> {
  you("Pause shop-1, right now.")
  const asked = performance.now()
  await client.call("pause_instances", { names: ["shop-1"] })
  const standing = () => processesOf(directory).filter(({ state }) => state === "T").length
  const stopped = await eventually(
    () => (standing() >= 4 ? standing() : undefined),
    "everything stands still",
  )
  fleet(
    `${stopped} processes stand still after ${Math.round(performance.now() - asked)} ms, claude and the tests it runs among them`,
  )
  await eventually(
    async () => (await look(client, "shop-1")).why.includes("are frozen"),
    "the pause is confirmed",
  )
  const { phase, why } = await look(client, "shop-1")
  fleet(`shop-1 ${phase}: ${why}`)
  await completes(client, "blog-1", "blog-1 completes meanwhile")
  agent(`blog-1 completed meanwhile: ${await commitsOf(client, "blog-1", 2)}`)

  you("Resume it.")
  await client.call("resume_instances", { names: ["shop-1"] })
  await completes(client, "shop-1", "shop-1 completes")
  agent("shop-1 completed: <promise>COMPLETE</promise>")
}

process.stdout.write(
  `\n${styleText("bold", "Blackbox5: a fleet of two agents, the real claude, a scripted model")}\n`,
)
for (const layout of layouts) await show(layout)
process.stdout.write(
  `\nEverything above really ran, and is cleaned up. The same with your own code root:\n\n  npm start -- --code-root /path/to/your/blackbox5\n\n`,
)
