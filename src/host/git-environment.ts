import { homedir } from "node:os"
import { isAbsolute, join } from "node:path"
import { outsidePath } from "./find-program.ts"

/** What our own git finds in its environment, and where the person's own configuration is. */

export interface GitSurroundings {
  /** An index of our own instead of the tree's. */
  readonly indexFile?: string
  /** May talk to other machines. Without it no protocol is allowed. */
  readonly network?: boolean
  /** Configuration above that of all files. */
  readonly config?: readonly (readonly [string, string])[]
}

const always: readonly (readonly [string, string])[] = [
  ["core.hooksPath", "/dev/null"],
  ["core.fsmonitor", "false"],
  // A file that was changed behind the index's back is looked at all the same.
  ["core.untrackedCache", "false"],
  ["core.trustctime", "true"],
  ["core.checkStat", "default"],
  ["core.pager", "cat"],
  ["gc.auto", "0"],
  ["maintenance.auto", "false"],
  ["submodule.recurse", "false"],
  ["fetch.recurseSubmodules", "false"],
  ["protocol.ext.allow", "never"],
  // It is run in git directories, too: those that we chose.
  ["safe.bareRepository", "all"],
  // A transfer that stands still ends by itself, also where nobody is left to end it.
  ["http.lowSpeedLimit", "1000"],
  ["http.lowSpeedTime", "60"],
]
/**
 * How the person's git reaches other machines, and where the person's own configuration is. All
 * other GIT_ variables are of somebody else's repository.
 */
const kept =
  /^GIT_(?:SSH|SSH_COMMAND|SSH_VARIANT|SSL_CAINFO|SSL_CAPATH|CONFIG_GLOBAL|CONFIG_SYSTEM|CONFIG_NOSYSTEM)$/

let pinned: string | undefined
/** From now on this process's git reads that file in place of the person's own configuration. */
export function useConfig(path: string): void {
  pinned = path
}
/**
 * Where the person's own configuration is, in the order in which git reads it. They need not be
 * there.
 */
export function personalConfigFiles(env: NodeJS.ProcessEnv = process.env): readonly string[] {
  if (env.GIT_CONFIG_GLOBAL !== undefined) return [env.GIT_CONFIG_GLOBAL].filter(isAbsolute)
  return [personalFile("config", env), join(homedir(), ".gitconfig")]
}
/** A program in place of ssh, which a configuration would overrule. */
export const hasOwnSsh = (env: NodeJS.ProcessEnv = process.env): boolean => Boolean(env.GIT_SSH)
/**
 * Where git looks for the person's ignored files and attributes, too, unless the configuration
 * names others.
 */
export const personalFile = (
  name: "config" | "ignore" | "attributes",
  env: NodeJS.ProcessEnv = process.env,
): string => join(env.XDG_CONFIG_HOME || join(homedir(), ".config"), "git", name)

export function gitEnvironment({
  config = [],
  network = false,
  indexFile,
}: GitSurroundings): NodeJS.ProcessEnv {
  const all = [...always, ...config]
  return {
    ...Object.fromEntries(
      Object.entries(process.env).filter(([name]) => !name.startsWith("GIT_") || kept.test(name)),
    ),
    ...(pinned !== undefined && { GIT_CONFIG_GLOBAL: pinned }),
    // For its helpers, too: ssh, filters, what holds credentials.
    PATH: outsidePath(),
    // Nobody is there to be asked: without a credential it fails at once.
    GIT_TERMINAL_PROMPT: "0",
    GIT_ASKPASS: "",
    SSH_ASKPASS_REQUIRE: "never",
    GCM_INTERACTIVE: "never",
    // Reading takes no lock that an agent's own git could meet.
    GIT_OPTIONAL_LOCKS: "0",
    GIT_ALLOW_PROTOCOL: network ? "https:http:ssh:git:file" : "",
    LC_ALL: "C",
    GIT_INDEX_FILE: indexFile,
    // Not -c, which cuts names at the first equals sign.
    GIT_CONFIG_COUNT: String(all.length),
    ...Object.fromEntries(
      all.flatMap(([name, value], at) => [
        [`GIT_CONFIG_KEY_${at}`, name],
        [`GIT_CONFIG_VALUE_${at}`, value],
      ]),
    ),
  }
}
