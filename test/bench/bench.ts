import { existsSync } from "node:fs"
import { constants } from "node:os"
import { parseArgs } from "node:util"
import { main } from "../e2e/world.ts"
import { beatsPart } from "./beats.ts"
import { brakePart, removePart } from "./brake.ts"
import { httpParts } from "./http.ts"
import { idlePart } from "./idle.ts"
import { loadPart } from "./load.ts"
import { mailPart } from "./mail.ts"
import type { Part, Row } from "./measure.ts"
import { pausePart } from "./pause.ts"
import { reconcilePart } from "./reconcile.ts"
import { listParts } from "./scale.ts"
import { spawnPart } from "./spawn.ts"
import { spawnCrowdPart } from "./spawn-crowd.ts"
import { stdioParts } from "./stdio.ts"
import { toolsPart } from "./tools.ts"
import { closeAll } from "./worlds.ts"

/**
 * `npm run bench -- [--json] [--only PREFIX]`: measures the built bundle against named baselines of
 * the same run. A goal that does not hold is said, and is no failure; a measurement that could not
 * be made is one.
 */

const parts: readonly Part[] = [
  ...stdioParts,
  spawnPart,
  spawnCrowdPart,
  mailPart,
  loadPart,
  pausePart,
  brakePart,
  removePart,
  ...listParts,
  beatsPart,
  reconcilePart,
  idlePart,
  toolsPart,
  ...httpParts,
]

const shown = (value: number | null): string => (value === null ? "-" : String(value))
const cellsOf = ({ id, value, unit, baseline, ratio, goal, holds }: Row): readonly string[] => [
  id,
  String(value),
  unit,
  shown(baseline),
  ratio === null ? "-" : `${ratio}x`,
  goal ?? "-",
  holds === null ? "-" : holds ? "yes" : "NO",
]
const numeric = new Set([1, 3, 4])

function tableOf(rows: readonly Row[]): string {
  const lines = [
    ["id", "value", "unit", "baseline", "ratio", "goal", "holds"],
    ...rows.map(cellsOf),
  ]
  const widths =
    lines[0]?.map((_, column) => Math.max(...lines.map((line) => line[column]?.length ?? 0))) ?? []
  const padded = (cell: string, column: number): string =>
    numeric.has(column) ? cell.padStart(widths[column] ?? 0) : cell.padEnd(widths[column] ?? 0)
  return lines.map((line) => `${line.map(padded).join("  ").trimEnd()}\n`).join("")
}

async function bench(argv: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: [...argv],
    options: { json: { type: "boolean", default: false }, only: { type: "string", default: "" } },
  })
  const wanted = ({ ids }: Part): boolean => ids.some((id) => id.startsWith(values.only))
  if (!parts.some(wanted))
    throw new Error(
      `no id begins with ${values.only}; there are ${parts.flatMap(({ ids }) => ids).join(", ")}`,
    )
  if (!existsSync(main)) throw new Error("there is no bundle: npm run build")
  const rows: Row[] = []
  let failed = 0
  for (const part of parts.filter(wanted)) {
    process.stderr.write(`${part.ids.join(", ")} ...\n`)
    try {
      rows.push(...(await part.measure()).filter(({ id }) => id.startsWith(values.only)))
    } catch (error) {
      failed += 1
      process.stderr.write(
        `could not be measured: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`,
      )
    }
  }
  process.stdout.write(values.json ? `${JSON.stringify(rows, undefined, 2)}\n` : tableOf(rows))
  return failed === 0 ? 0 : 1
}

for (const name of ["SIGINT", "SIGTERM"] as const)
  process.once(
    name,
    () => void closeAll().finally(() => process.exit(128 + constants.signals[name])),
  )

bench(process.argv.slice(2)).then(
  (code) => {
    process.exitCode = code
  },
  (error: unknown) => {
    process.stderr.write(`error: ${error instanceof Error ? error.message : String(error)}\n`)
    process.exitCode = 1
  },
)
