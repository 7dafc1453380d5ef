import { describe, expect, it } from "vitest"
import { press } from "../../src/roles/top/keys.ts"
import { draw } from "../../src/roles/top/screen.ts"
import {
  empty,
  type Fleet,
  type FleetRow,
  type Order,
  type State,
  withFleet,
  withText,
} from "../../src/roles/top/state.ts"

const row = (name: string, more: Partial<FleetRow> = {}): FleetRow => ({
  ...{
    name,
    project: "shop",
    phase: "Running",
    why: `why of ${name}`,
    iteration: 3,
    usd: 1.5,
    budgetUsd: 10,
  },
  ...more,
})
const fleetOf = (rows: readonly FleetRow[], more: Partial<Fleet> = {}): Fleet => ({
  ...{ headline: "The headline", turns: "1 of 4 turns in use", total: rows.length, rows },
  ...more,
})
const shown = (rows: readonly FleetRow[], more: Partial<Fleet> = {}): State =>
  withFleet(empty, fleetOf(rows, more))
const textsOf = (state: State, columns = 80, rows = 12): readonly string[] =>
  draw(state, { columns, rows }).map(({ text }) => text.trimEnd())
/** Presses keys by their names; a name of one character is that character. */
const type = (
  state: State,
  ...keys: readonly string[]
): { state: State; orders: readonly Order[] } => {
  const orders: Order[] = []
  let now = state
  for (const key of keys) {
    const done = press(now, { name: key, ...([...key].length === 1 && { text: key }) })
    now = done.state
    if (done.order) orders.push(done.order)
  }
  return { state: now, orders }
}
const three = shown([row("a"), row("b"), row("c")])
const many = shown(
  Array.from({ length: 200 }, (_, at) => row(`n-${at}`)),
  { total: 340 },
)
/** What no terminal may be given: control characters, and what reorders a line. */
const moving = /[\p{Cc}\u200e\u200f\u202a-\u202e\u2066-\u2069]/u

describe("the screen", () => {
  it("is headline, table with its selection, status and keys", () => {
    const state = shown([
      row("shop-1", { activity: "Bash: npm test" }),
      row("shop-2", { phase: "Failed" }),
    ])
    expect(textsOf({ ...state, notice: "Paused." })).toEqual([
      "The headline",
      "1 of 4 turns in use",
      "",
      "  NAME    PHASE    ITER  USED          NOW",
      "> shop-1  Running  3     $1.50 of $10  Bash: npm test",
      "  shop-2  Failed   3     $1.50 of $10  why of shop-2",
      ...["", "", "", ""],
      "Paused.",
      "p: pause  r: resume  s: stop  m: message  i: inspect  l: logs  q: quit",
    ])
    expect(draw(state, { columns: 80, rows: 12 }).map(({ style }) => style)).toEqual([
      ...["title", "faint", undefined, "head", "selected", "alarm"],
      ...[undefined, undefined, undefined, undefined, undefined, "faint"],
    ])
    expect(textsOf(state, 120)[3]).toMatch(/^ {2}NAME +PROJECT +PHASE/)
  })

  it("shows what fits at 60 columns: whole keys, a readable last column, both ends of a name", () => {
    const long = "a-project-with-a-long-name"
    const why =
      "Paused: all its processes are frozen. It resumes by itself in 3 h, when the window of its schedule opens again."
    const state = shown([row(`${long}-1`, { phase: "Paused", why }), row(`${long}-2`)])
    const lines = textsOf(state, 60, 20)
    expect(lines[3]).toBe("  NAME             PHASE    USED   NOW")
    expect(lines[4]).toMatch(/^> a-project-…me-1 {2}Paused {3}\$1\.50 {2}all its processes a.*…$/)
    expect(lines[5]).toMatch(/^ {2}a-project-…me-2 /)
    expect(lines.at(-1)).toBe("p pause  r resume  s stop  m message  i info  l logs  q quit")
    // All that the selected row has no room for.
    expect(lines.slice(-4, -2).join(" ")).toContain(
      `${long}-1: all its processes are frozen. It resumes by itself in 3 h`,
    )
    expect(textsOf(state, 200, 20)[4]).toMatch(/^> a-project-with-a-long-name-1 .* opens again\.$/)
    expect(textsOf(state, 200, 20).slice(-4, -2)).toEqual(["", ""])
    for (const columns of [60, 80, 120, 200])
      expect(textsOf(state, columns, 20).at(-1)).toMatch(/s:? stop .*q:? quit$/)
  })

  it("has exactly the lines and at most the columns of the terminal, whatever that is, in every view", () => {
    const views: readonly State[] = [
      ...[
        empty,
        three,
        many,
        shown([]),
        { ...three, trouble: "t".repeat(500), notice: "n".repeat(500) },
      ],
      shown([row("x".repeat(53), { why: "w".repeat(900), phase: "NeedsAnswer" })], {
        warning: "W".repeat(300),
      }),
      type(three, "s").state,
      type(three, "m", ..."a message that is longer than some terminals are wide").state,
      withText(type(three, "i").state, "inspect", "a", "line\n".repeat(300) + "y".repeat(700), 40),
    ]
    for (const state of views)
      for (const [columns, rows] of [
        [80, 24],
        [200, 60],
        [40, 8],
        [20, 3],
        [5, 2],
        [1, 1],
      ] as const) {
        const lines = draw(state, { columns, rows })
        expect(lines).toHaveLength(rows)
        if (columns >= 40)
          for (const { text } of lines) expect([...text].length).toBeLessThanOrEqual(columns)
      }
  })

  it("lets nobody who writes into it move the cursor", () => {
    const evil = "\u001b[2J\u001b[31mred\r\nnext\u0007\u009b1A\u202eback\ttab"
    const states = [
      shown([row(evil, { why: evil, activity: evil, phase: evil, project: evil })], {
        headline: evil,
        warning: evil,
        turns: evil,
      }),
      { ...three, notice: evil },
      { ...three, trouble: evil },
      withText(type(three, "l").state, "logs", "a", `${evil}\n${evil}`, 80),
      type(three, "m", ...evil).state,
    ]
    for (const state of states)
      for (const text of textsOf(state, 120)) expect(text).not.toMatch(moving)
    expect(textsOf({ ...three, notice: evil }).at(-2)).toBe("red next1Aback tab")
  })

  it("shows the part of a long table around the selection, and how many there are", () => {
    expect(textsOf(many)[1]).toBe("1 of 4 turns in use; 200 of 340 shown")
    const end = type(many, "end").state
    expect(textsOf(end)).toContainEqual(expect.stringMatching(/^> n-199 /))
    const middle = type(many, ...Array.from({ length: 10 }, () => "pagedown")).state
    expect(textsOf(middle)).toContainEqual(expect.stringMatching(/^> n-100 /))
  })

  it("says what keeps it from being new, until it is new", () => {
    const state: State = { ...three, trouble: "serve has not answered.", notice: "Paused." }
    expect(textsOf(state).at(-2)).toBe("serve has not answered.")
    expect(textsOf(withFleet(state, fleetOf([row("a")]))).at(-2)).toBe("Paused.")
    expect(textsOf(empty)[0]).toBe("Waiting for serve ...")
    expect(textsOf(shown([])).join()).toContain("spawn-instance")
  })
})

describe("the selection", () => {
  it("moves by arrows, j and k, and stops at both ends", () => {
    expect(three.selected).toBe("a")
    expect(type(three, "down", "j", "j", "down").state.selected).toBe("c")
    expect(type(three, "j", "j", "k", "up", "up").state.selected).toBe("a")
    expect(type(three, "end").state.selected).toBe("c")
    expect(type(shown([]), "j", "p", "m", "i", "l").state).toMatchObject({
      selected: undefined,
      view: { kind: "fleet" },
    })
  })

  it("stays with its instance when the order changes, and with its place when that is gone", () => {
    const second = type(three, "j").state
    expect(withFleet(second, fleetOf([row("c"), row("new"), row("a"), row("b")])).selected).toBe(
      "b",
    )
    expect(withFleet(second, fleetOf([row("a"), row("c")])).selected).toBe("c")
    expect(withFleet(type(three, "end").state, fleetOf([row("a")])).selected).toBe("a")
    expect(withFleet(second, fleetOf([])).selected).toBeUndefined()
  })
})

describe("the keys", () => {
  it("pause, resume, look and quit", () => {
    const { orders, state } = type(
      three,
      "p",
      "j",
      "r",
      "l",
      "q",
      "i",
      "escape",
      "return",
      "left",
      "q",
    )
    expect(orders).toEqual([
      { kind: "pause", name: "a" },
      { kind: "resume", name: "b" },
      ...[{ kind: "look" }, { kind: "look" }, { kind: "look" }],
      { kind: "quit" },
    ])
    expect(state.view).toEqual({ kind: "fleet" })
    for (const view of [three, type(three, "m").state, type(three, "l").state])
      expect(press(view, { name: "c", ctrl: true }).order).toEqual({ kind: "quit" })
    expect(press(three, { name: "p", ctrl: true })).toEqual({ state: three })
  })

  it("stop what was selected, after a plain y and nothing else", () => {
    const asked = type(three, "down", "s")
    expect(asked.orders).toEqual([])
    expect(textsOf(asked.state).slice(-2)).toEqual([
      "Stop b? This ends its iteration at once.",
      "y: stop it  any other key: cancel",
    ])
    for (const key of ["return", "escape", "n", "q", "s", "up"]) {
      const { state, orders } = type(asked.state, key)
      expect([key, orders, state.view.kind, state.notice]).toEqual([
        key,
        [],
        "fleet",
        "Did not stop b.",
      ])
    }
    expect(press(asked.state, { name: "y", meta: true }).order).toBeUndefined()
    // Whatever the table does meanwhile.
    expect(type(withFleet(asked.state, fleetOf([row("a")])), "y").orders).toEqual([
      { kind: "stop", name: "b" },
    ])
  })

  it("write a line, with the keys that a line has", () => {
    const written = (...keys: readonly string[]) => type(three, "m", ...keys)
    expect(written(..."pause q", "return").orders).toEqual([
      { kind: "message", name: "a", text: "pause q" },
    ])
    expect(
      written(..."ac", "left", "b", "home", "delete", "x", "end", "d", "backspace", "!", "return")
        .orders,
    ).toEqual([{ kind: "message", name: "a", text: "xbc!" }])
    expect(written(..."für 😀", "backspace", "é", "return").orders).toEqual([
      { kind: "message", name: "a", text: "für é" },
    ])
    // One character, as people see it, is one step: also where it is several code points.
    expect(written("x", ..."👨‍👩‍👧‍👦", "y", "left", "backspace", "return").orders).toEqual([
      { kind: "message", name: "a", text: "xy" },
    ])
    expect(written("a", "b", "left", "\u0301", "c", "return").orders).toEqual([
      { kind: "message", name: "a", text: "a\u0301cb" },
    ])
    expect(written(..."x", "escape").orders).toEqual([])
    expect(written(" ", "return").orders).toEqual([])
    const line = type(three, "m", ..."abc").state
    expect(type(press(line, { name: "u", ctrl: true }).state, "z", "return").orders).toMatchObject([
      { text: "z" },
    ])
    expect(textsOf(line).at(-2)).toBe("To a: abc▏")
    expect(textsOf(type(line, "left").state).at(-2)).toBe("To a: ab▏c")
    expect(type(line, ..."x".repeat(5000)).state.view).toMatchObject({
      text: `abc${"x".repeat(3997)}`,
    })
  })

  it("do not send a paste before its end", () => {
    const { orders } = type(
      three,
      "m",
      "paste-start",
      ..."one",
      "return",
      ..."two",
      "paste-end",
      "return",
    )
    expect(orders).toEqual([{ kind: "message", name: "a", text: "one two" }])
  })

  it("scroll a text, which follows its end until it is scrolled", () => {
    const open = type(three, "l").state
    const numbers = (from: number, to: number): string =>
      Array.from({ length: to - from + 1 }, (_, at) => `line ${from + at}`).join("\n")
    const first = withText(open, "logs", "a", numbers(1, 100), 80)
    expect(textsOf(first).slice(2, 10)).toEqual(numbers(93, 100).split("\n"))
    expect(textsOf(withText(first, "logs", "a", numbers(1, 102), 80)).slice(2, 10)).toEqual(
      numbers(95, 102).split("\n"),
    )
    const up = type(first, "up", "k").state
    expect(textsOf(up).slice(2, 10)).toEqual(numbers(91, 98).split("\n"))
    expect(textsOf(withText(up, "logs", "a", numbers(1, 102), 80)).slice(2, 10)).toEqual(
      numbers(91, 98).split("\n"),
    )
    expect(textsOf(type(first, "home").state).slice(2, 10)).toEqual(numbers(1, 8).split("\n"))
    expect(textsOf(type(first, "home", "end").state).slice(2, 10)).toEqual(
      numbers(93, 100).split("\n"),
    )
    // An answer that comes too late is not shown in another view.
    expect(withText(type(first, "escape").state, "logs", "a", "late", 80).view).toEqual({
      kind: "fleet",
    })
    expect(withText(first, "inspect", "a", "late", 80)).toBe(first)
  })
})
