import { execFileSync } from "node:child_process"
import { chmodSync, mkdirSync, writeFileSync } from "node:fs"
import { join } from "node:path"

/** A code root of the RALF layout, with a loop script of the real shape: what users have, which we neither own nor change. */

const loopScript = `#!/usr/bin/env bash
# The shape of the real loop: endless; the prompt into claude; the answer into a log; markers from the log's end.
set -uo pipefail
PROJECT_DIR="$(cd "\${1:-.}" && pwd)"
ROOT="$(cd "$(dirname "\${BASH_SOURCE[0]}")/../../.." && pwd)"
export RALF_PROJECT_DIR="$PROJECT_DIR" RALF_ENGINE_DIR="$ROOT/2-engine/.autonomous" RALF_BLACKBOX5_DIR="$ROOT"
LOGS="$PROJECT_DIR/.autonomous/LOGS"
mkdir -p "$LOGS"
LOG="$LOGS/ralf-session-$(date +%s).log"
trap 'echo "interrupted"; exit 130' INT TERM
cd "$ROOT"
ITERATION=0
while true; do
  ITERATION=$((ITERATION + 1))
  echo -e "\\033[0;34m=== RALF iteration $ITERATION ===\\033[0m" | tee -a "$LOG"
  if ! cat "$RALF_ENGINE_DIR/prompts/ralf.md" | claude -p --dangerously-skip-permissions 2>&1 | tee -a "$LOG"; then
    echo "claude failed; again in \${RALF_RETRY_SECONDS:-30} s" | tee -a "$LOG"
    sleep "\${RALF_RETRY_SECONDS:-30}"
    continue
  fi
  if tail -n 100 "$LOG" | grep -q '<promise>COMPLETE</promise>'; then
    echo "complete" | tee -a "$LOG"
    exit 0
  fi
  if tail -n 100 "$LOG" | grep -q 'Status: BLOCKED'; then echo "blocked" | tee -a "$LOG"; fi
  sleep "\${RALF_SLEEP_SECONDS:-10}"
done
`

/** Makes a code root with these projects, each a git repository with one commit. */
export function makeCodeRoot(path: string, projects: readonly string[]): void {
  const engine = join(path, "2-engine/.autonomous")
  mkdirSync(join(engine, "shell"), { recursive: true })
  mkdirSync(join(engine, "prompts"), { recursive: true })
  writeFileSync(join(engine, "prompts/ralf.md"), "You are RALF. Do the next small step of your project, verify it, commit it.\n")
  const script = join(engine, "shell/ralf-loop.sh")
  writeFileSync(script, loopScript)
  chmodSync(script, 0o755)
  for (const project of projects) {
    const directory = join(path, "5-project-memory", project)
    mkdirSync(join(directory, ".autonomous/tasks/active"), { recursive: true })
    writeFileSync(join(directory, "README.md"), `# ${project}\n`)
    writeFileSync(join(directory, ".gitignore"), ".autonomous/LOGS/\n")
    git(directory, "init", "-q", "-b", "main")
    git(directory, "add", "-A")
    git(directory, "commit", "-q", "-m", "Begin")
  }
}

/** Runs git in a directory, as an author of its own; returns what it prints. */
export const git = (directory: string, ...args: readonly string[]): string =>
  execFileSync("git", ["-c", "user.name=RALF", "-c", "user.email=ralf@example.invalid", ...args], {
    cwd: directory,
    encoding: "utf8",
  }).trim()
