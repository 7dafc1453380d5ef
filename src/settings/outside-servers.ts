import { join } from "node:path"
import { z } from "zod"
import { projectSchema } from "../core/instance.ts"
import { fleetServer, type McpServer, type McpServers } from "../core/mcp-servers.ts"
import { type FollowedFile, followFile } from "./followed-file.ts"

/** The MCP servers that people give to their agents: `mcp-servers.yaml`, beside the policy. */

/** `${NAME}`: a variable in the environment of `serve`, which is a secret. */
const reference = /\$\{([A-Za-z_][A-Za-z0-9_]*)\}/g
const namesIn = (text: string): string[] =>
  [...text.matchAll(reference)].map(([, name = ""]) => name)
/** Agents need these variables, so they cannot be secrets. */
const needed =
  /^(?:PATH|HOME|USER|LOGNAME|SHELL|LANG|LC_\w+|TERM|TZ|TMPDIR|PWD|SSH_AUTH_SOCK|IS_SANDBOX|(?:ANTHROPIC|CLAUDE|BLACKBOX5)_\w+)$/

const secretsSchema = z.record(z.string(), z.coerce.string()).default({})
const serverSchema = z
  .strictObject({
    /**
     * A program that speaks MCP on stdin and stdout. In `args`, `{tree}` and `{project}` stand for
     * directories of the instance. Agents write there: a program with secrets that runs code from
     * them gives its secrets away.
     */
    command: z.string().min(1).optional(),
    args: z.array(z.coerce.string()).default([]),
    env: secretsSchema,
    /** Or a server over HTTP. */
    url: z
      .string()
      .regex(/^https?:\/\//, "must be an http or https URL")
      .optional(),
    headers: secretsSchema,
    /** The projects that get it; without this, all. */
    projects: z.array(projectSchema).optional(),
  })
  .superRefine(({ command, args, env, url, headers }, { addIssue }) => {
    const refuse = (path: string, message: string): void =>
      addIssue({ code: "custom", path: [path], message })
    if ((command === undefined) === (url === undefined))
      refuse("command", "give either command or url")
    for (const [path, texts] of Object.entries({ command: [command ?? ""], args }))
      if (texts.some((text) => namesIn(text).length > 0))
        refuse(path, "anyone can see a program's arguments: put secrets into env")
    if (
      command?.includes("/") &&
      !command.startsWith("/") &&
      Object.values(env).some((text) => namesIn(text).length > 0)
    )
      refuse(
        "command",
        "a program with secrets must be an absolute path or the name of an installed program, because agents write to the tree",
      )
    for (const [path, texts] of Object.entries({
      env: Object.values(env),
      headers: Object.values(headers),
      url: [url ?? ""],
    })) {
      const name = texts.flatMap(namesIn).find((one) => needed.test(one))
      if (name !== undefined)
        refuse(path, `agents need ${name} themselves, so it cannot be a secret: write its value`)
    }
  })
type Server = z.output<typeof serverSchema>
const fileSchema = z.strictObject({
  servers: z
    .record(z.string().regex(/^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$/), serverSchema)
    .refine((servers) => !(fleetServer in servers), `the name ${fleetServer} is reserved`)
    .default({}),
})
export type OutsideServersFile = FollowedFile<z.output<typeof fileSchema>>
export { fileSchema as outsideServersSchema }

export const followOutsideServers = (
  directory: string,
  report: (message: string) => void,
  signal: AbortSignal,
): OutsideServersFile =>
  followFile(
    {
      path: join(directory, "mcp-servers.yaml"),
      name: "mcp-servers.yaml",
      schema: fileSchema,
      report,
    },
    signal,
  )

const textsOf = ({ env, url, headers }: Server): string[] => [
  ...Object.values(env),
  ...Object.values(headers),
  url ?? "",
]

/** The variables that are secrets of servers. An agent's loop does not inherit them. */
export const secretsOf = ({ servers }: z.output<typeof fileSchema>): string[] => [
  ...new Set(Object.values(servers).flatMap((server) => textsOf(server).flatMap(namesIn))),
]

/** The servers of a project, with their secrets. Only for the project's supervisors. */
export function serversFor(
  project: string,
  { servers }: z.output<typeof fileSchema>,
  environment: NodeJS.ProcessEnv = process.env,
): McpServers {
  const granted: McpServer[] = []
  const left: { name: string; why: string }[] = []
  for (const [name, server] of Object.entries(servers)) {
    if (server.projects && !server.projects.includes(project)) continue
    const names = textsOf(server).flatMap(namesIn)
    const missing = names.find((one) => !environment[one])
    if (missing !== undefined) {
      left.push({ name, why: `${missing} is not set in the environment of blackbox5 serve` })
      continue
    }
    const filled = (text: string): string =>
      text.replace(reference, (_, one: string) => environment[one] ?? "")
    const all = (texts: Readonly<Record<string, string>>): Record<string, string> =>
      Object.fromEntries(Object.entries(texts).map(([key, text]) => [key, filled(text)]))
    granted.push({
      name,
      secret: names.length > 0,
      at:
        server.url !== undefined
          ? { url: filled(server.url), headers: all(server.headers) }
          : { command: server.command ?? "", args: server.args, env: all(server.env) },
    })
  }
  return { servers: granted, left }
}
