import { emitKeypressEvents, type Key as ReadlineKey } from "node:readline"
import { styleText } from "node:util"
import type { ScreenLine, Size } from "./screen-line.ts"
import type { Key } from "./state.ts"

/** The terminal: an alternate screen, which is left however the program ends. */

// Control sequences of xterm: alternate screen, hidden cursor, no wrapping (the terminal cuts long
// lines), marked pastes.
const enter = "\u001b[?1049h\u001b[?25l\u001b[?7l\u001b[?2004h"
const leave = "\u001b[?2004l\u001b[?7h\u001b[?25h\u001b[?1049l"
const home = "\u001b[H"
const eraseLine = "\u001b[K"
const eraseBelow = "\u001b[J"
const sizeUnknown: Size = { columns: 80, rows: 24 }

const styles = {
  title: "bold",
  head: "underline",
  selected: "inverse",
  good: "green",
  alarm: "yellow",
  faint: "dim",
} as const satisfies Record<NonNullable<ScreenLine["style"]>, Parameters<typeof styleText>[0]>

export interface Terminal {
  size(): Size
  show(lines: readonly ScreenLine[]): void
  /** Idempotent. */
  restore(): void
}

export interface TerminalEvents {
  key(key: Key): void
  resized(): void
  /** The terminal is gone. */
  gone(): void
}

export function openTerminal({ key, resized, gone }: TerminalEvents): Terminal {
  const { stdin, stdout } = process
  let open = true
  const restore = (): void => {
    if (!open) return
    open = false
    stdin.off("keypress", pressed)
    stdin.setRawMode(false)
    stdin.pause()
    stdout.off("resize", resized)
    stdout.write(leave)
  }
  const pressed = (text: string | undefined, { name, ctrl, meta }: ReadlineKey): void =>
    // readline reports the escape key alone as meta.
    key({ name: name ?? text, ctrl, meta: meta && name !== "escape", text })
  // After an uncaught error too.
  process.once("exit", restore)
  for (const stream of [stdin, stdout]) stream.on("error", gone)
  stdin.once("end", gone)
  emitKeypressEvents(stdin)
  stdin.setRawMode(true)
  stdin.on("keypress", pressed)
  stdin.resume()
  stdout.on("resize", resized)
  stdout.write(enter)
  return {
    size: () => ({
      columns: stdout.columns || sizeUnknown.columns,
      rows: stdout.rows || sizeUnknown.rows,
    }),
    show(lines) {
      if (!open || stdout.writableNeedDrain) return // a slow terminal skips this frame
      const drawn = lines.map(({ text, style }) => {
        // styleText honours NO_COLOR, so the selected line is marked by a sign as well.
        const styled =
          style === undefined || text === ""
            ? text
            : styleText(styles[style], text, { stream: stdout })
        return styled + eraseLine
      })
      stdout.write(home + drawn.join("\r\n") + eraseBelow)
    },
    restore,
  }
}
