import { execFile } from "node:child_process"
import { readFileSync } from "node:fs"
import { request } from "node:http"
import { join } from "node:path"
import { z } from "zod"
import { createHints } from "../../src/roles/hints.ts"
import { tools } from "../../tools/index.ts"
import { type ModelRequest, say, use } from "../model/model.ts"
import { eventually, type McpClient, main, type World } from "./world.ts"

/** One call through every face: REST over both listeners, the command line, and MCP. */

export interface Ran {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}
/** The bundle as a command, from a directory that stays. */
export const run = (
  world: World,
  args: readonly string[],
  env: Record<string, string> = {},
): Promise<Ran> =>
  new Promise((resolve) => {
    const child = execFile(
      process.execPath,
      [main, ...args],
      { env: { ...world.env, ...env }, cwd: world.directory },
      (_error, stdout, stderr) => resolve({ code: child.exitCode ?? -1, stdout, stderr }),
    )
  })
/** What stands behind `error:` and `next:`, below log lines. */
export const toldBy = ({ stderr }: Ran): { message: string; next: string } => {
  const [, message = "", next = ""] =
    /^error: ((?:.|\n)*?)\nnext: ((?:.|\n)*?)\n$/m.exec(stderr) ?? []
  return { message, next }
}

export interface Answer {
  readonly status: number
  readonly json: unknown
}
export const errorSchema = z.object({
  error: z.object({ code: z.string(), message: z.string(), next: z.string() }),
})
export const rest = (
  world: World,
  listener: "socket" | "tcp",
  method: string,
  path: string,
  body?: string,
): Promise<Answer> =>
  new Promise((resolve, reject) => {
    const { url } = z
      .object({ url: z.string() })
      .parse(JSON.parse(readFileSync(join(world.state, "serve.json"), "utf8")))
    const call = request({
      ...(listener === "socket"
        ? { socketPath: join(world.state, "serve.sock") }
        : { host: "127.0.0.1", port: new URL(url).port }),
      method,
      path,
      agent: false,
      headers: {
        ...(listener === "tcp" && {
          authorization: `Bearer ${readFileSync(join(world.state, "token"), "utf8").trim()}`,
        }),
        ...(body !== undefined && {
          "content-type": "application/json",
          "content-length": Buffer.byteLength(body),
        }),
      },
    })
    call.once("error", reject)
    call.once("response", async (response) => {
      let text = ""
      for await (const chunk of response.setEncoding("utf8")) text += chunk
      resolve({ status: response.statusCode ?? 0, json: JSON.parse(text) })
    })
    call.end(body)
  })
export const restOf = (
  name: string,
  input: Record<string, unknown>,
): [method: string, path: string, body?: string] => {
  const [method = "", path = ""] = tools.find((tool) => tool.name === name)?.route.split(" ") ?? []
  const query = Object.entries(input).map(([key, value]): [string, string] => [key, String(value)])
  if (method === "GET") return [method, `${path}?${new URLSearchParams(query)}`]
  return [method, path, JSON.stringify(input)]
}
export const mcpText = async (
  { client }: McpClient,
  name: string,
  input: Record<string, unknown>,
): Promise<{ isError: boolean; text: string }> => {
  const result = await client.callTool({ name, arguments: input })
  const [{ text }] = z.tuple([z.object({ text: z.string() })]).parse(result.content)
  return { isError: result.isError === true, text }
}
export const endlessWork = ({ toolResults }: ModelRequest) =>
  toolResults.length === 0
    ? use([{ name: "Bash", input: { command: "sleep 0.1" } }])
    : say("Status: PARTIAL")
export const inspected = z.looseObject({ phase: z.string(), why: z.string(), fix: z.string() })
export const look = async ({ call }: McpClient, name: string) =>
  inspected.parse(await call("inspect_instance", { name }))
export const reaches = (mcp: McpClient, name: string, ...phases: readonly string[]) =>
  eventually(
    async () => {
      const seen = await look(mcp, name)
      return phases.includes(seen.phase) && seen
    },
    `${name}: ${phases.join(" or ")}`,
    60,
  )
/** How long ago something was made goes on between two calls. */
export const withoutAge = (answer: unknown): unknown =>
  JSON.parse(JSON.stringify(answer).replace(/\d+ (?:s|min) ago/g, "a while ago"))

/** A hint as the command line says it: no launcher is on this PATH. */
export const inShell = createHints(tools, `${process.execPath} ${main}`).text
