// Brings the packages that package-lock.json names, if they are not there yet. Plain JavaScript for whatever Node the machine has:
// the project itself then runs on the Node that comes as one of these packages.
import { spawnSync } from "node:child_process"
import { statSync } from "node:fs"

const changedMs = (path) =>
  statSync(new URL(path, import.meta.url), { throwIfNoEntry: false })?.mtimeMs ?? 0
if (changedMs("node_modules/.package-lock.json") < changedMs("package-lock.json")) {
  process.stderr.write("Installing packages (npm ci) ...\n")
  const { status } = spawnSync("npm", ["ci", "--no-audit", "--no-fund", "--loglevel=error"], {
    cwd: new URL(".", import.meta.url),
    stdio: ["ignore", "ignore", "inherit"],
  })
  if (status !== 0) {
    process.stderr.write(
      "The packages could not be installed: is the npm registry reachable? Run npm ci to see more.\n",
    )
    process.exit(1)
  }
}
