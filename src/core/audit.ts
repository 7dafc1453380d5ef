import type { Fault } from "./faults.ts"
import type { Emitted } from "./link.ts"
import { nameOf, type Principal } from "./principal.ts"
import { cut } from "./view.ts"

const messageCharactersMax = 1000
const namesMax = 100

/** What the timeline keeps of one call. What was said in it is not there: a goal or a message may hold what is nobody else's. */
export function auditOf(
  who: Principal,
  tool: string,
  names: readonly string[],
  fault: Fault | undefined,
): Pick<Emitted, "kind" | "message" | "called"> {
  const on = names.length > 0 ? ` on ${names.join(", ")}` : ""
  const verdict = fault ? `${fault.code}, ${fault.message}` : "done"
  return {
    kind: "Audit",
    message: cut(`${nameOf(who)} called ${tool}${on}: ${verdict}`, messageCharactersMax),
    called: { who: cut(nameOf(who), 200), tool, on: names.slice(0, namesMax), verdict: fault?.code ?? "done" },
  }
}
