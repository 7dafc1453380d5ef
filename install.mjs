// Installs the packages of package-lock.json if they are missing or outdated. Plain JavaScript, for any Node that the machine has:
// the project itself runs on the Node that is one of these packages.
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
      "Could not install the packages. Is the npm registry reachable? Run `npm ci` for details.\n",
    )
    process.exit(1)
  }
}
