import { charactersOf, oneLine } from "../../core/view.ts"

/** Text that must fit a number of columns. */

/** At most `columns` characters. */
export const cutTo = (text: string, columns: number): string => {
  const letters = charactersOf(text)
  return letters.length <= columns
    ? text
    : `${letters.slice(0, Math.max(0, columns - 1)).join("")}…`
}
/** All of a text, in as many lines as it needs. */
export const chopped = (text: string, columns: number): readonly string[] => {
  const letters = [...text]
  const count = Math.max(1, Math.ceil(letters.length / columns))
  return Array.from({ length: count }, (_, at) =>
    letters.slice(at * columns, (at + 1) * columns).join(""),
  )
}
/** Text from others, as one line without control characters. */
export const cell = (text: string, columns: number): string =>
  cutTo(oneLine(text, 4 * columns), columns)
/** Like `cell`, but cut in the middle, because names of one project differ at their ends. */
export const middleCut = (text: string, columns: number): string => {
  const letters = [...oneLine(text, 4 * columns)]
  if (letters.length <= columns || columns < 8) return cell(text, columns)
  const tail = Math.floor((columns - 1) / 3)
  return `${letters.slice(0, columns - 1 - tail).join("")}…${letters.slice(-tail).join("")}`
}
/** A text wrapped between words into at most `linesMax` lines. */
export function wrapped(text: string, columns: number, linesMax: number): readonly string[] {
  const lines: string[] = [""]
  for (const word of oneLine(text, columns * linesMax).split(" ")) {
    const longer = [lines.at(-1) ?? "", word].filter((part) => part !== "").join(" ")
    if (longer.length <= columns || lines.at(-1) === "") lines.splice(-1, 1, longer)
    else lines.push(word)
  }
  return lines.length <= linesMax
    ? lines.map((one) => cutTo(one, columns))
    : [...lines.slice(0, linesMax - 1), cutTo(lines.slice(linesMax - 1).join(" "), columns)].map(
        (one) => cutTo(one, columns),
      )
}
