import { runLoop } from "../agent/loop.ts"

/** `blackbox5 loop <project directory>`: the built-in loop, for projects without a loop script. */
export async function loop(argv: readonly string[]): Promise<number> {
  const [directory] = argv
  if (directory === undefined) {
    process.stderr.write("usage: blackbox5 loop <project directory>   (started by an agent, not by people)\n")
    return 2
  }
  return runLoop(directory)
}
