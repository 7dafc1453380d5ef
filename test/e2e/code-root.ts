import { execFileSync } from "node:child_process"
import { chmodSync, copyFileSync, mkdirSync, writeFileSync } from "node:fs"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"

/**
 * Code roots as users have them, with loop scripts that behave as the public ones do; we neither
 * own nor change these. `engine` and `classic` are the two public checkouts, each one git
 * repository; in `projects` the engine stands beside projects that are repositories of their own.
 */
export const layouts = ["engine", "classic"] as const
export type Layout = (typeof layouts)[number] | "projects"

const fixtures = fileURLToPath(new URL("../loops", import.meta.url))
export const loopFixture = (name: string): string => join(fixtures, `${name}-loop.sh`)

/** Where a layout has its loop script, and the prompt that it feeds to claude. */
const places = {
  engine: {
    script: "2-engine/.autonomous/shell/ralf-loop.sh",
    prompt: "2-engine/.autonomous/prompts/ralf.md",
  },
  classic: { script: "bin/ralf-tools/ralf-loop.sh", prompt: "bin/ralf-tools/ralf.md" },
} as const
export const scriptOf = (layout: Layout): string =>
  places[layout === "classic" ? "classic" : "engine"].script

/** Makes a code root with these projects, everything committed once. */
export function makeCodeRoot(
  path: string,
  projects: readonly string[],
  layout: Layout = "projects",
): void {
  const fixture = layout === "classic" ? "classic" : "engine"
  const { script, prompt } = places[fixture]
  for (const file of [script, prompt]) mkdirSync(join(path, dirname(file)), { recursive: true })
  writeFileSync(
    join(path, prompt),
    "You are RALF. Do the next small step of your project, verify it, commit it.\n",
  )
  copyFileSync(loopFixture(fixture), join(path, script))
  chmodSync(join(path, script), 0o755)
  for (const project of projects) {
    const directory = join(path, "5-project-memory", project)
    mkdirSync(join(directory, ".autonomous/tasks/active"), { recursive: true })
    writeFileSync(join(directory, ".autonomous/tasks/active/first.md"), "The first task.\n")
    writeFileSync(join(directory, "README.md"), `# ${project}\n`)
    if (layout !== "projects") continue
    writeFileSync(join(directory, ".gitignore"), ".autonomous/LOGS/\n")
    commitAll(directory)
  }
  if (layout !== "projects") commitAll(path)
}
function commitAll(directory: string): void {
  git(directory, "init", "-q", "-b", "main")
  git(directory, "add", "-A")
  git(directory, "commit", "-q", "-m", "Begin")
}

/** Runs git in a directory, as an author of its own; returns what it prints. */
export const git = (directory: string, ...args: readonly string[]): string =>
  execFileSync("git", ["-c", "user.name=RALF", "-c", "user.email=ralf@example.invalid", ...args], {
    cwd: directory,
    encoding: "utf8",
  }).trim()
