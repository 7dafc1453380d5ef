/** Claude's command line, as far as its shim has to understand it. */

/** Claude's subcommands and flags that talk to no model (claude --help). */
const subcommands = new Set([
  "agents",
  "auth",
  "auto-mode",
  "config",
  "doctor",
  "install",
  "mcp",
  "plugin",
  "plugins",
  "setup-token",
  "update",
  "upgrade",
  "migrate-installer",
])
const informational = new Set(["--version", "-v", "--help", "-h"])
/** True for what asks a model, and so needs a turn. */
export const isPrompt = (args: readonly string[]): boolean =>
  !subcommands.has(args[0] ?? "") && !args.some((arg) => informational.has(arg))

/**
 * Flags behind the caller's, before a `--` that ends them. Of several `--mcp-config` claude takes
 * all servers, and of two with one name the last: so ours stand behind the caller's, and behind
 * nothing that a list of values could swallow.
 */
export function appended(args: readonly string[], flags: readonly string[]): string[] {
  const end = args.indexOf("--")
  return end < 0 ? [...args, ...flags] : [...args.slice(0, end), ...flags, ...args.slice(end)]
}
