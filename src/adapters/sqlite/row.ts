import type { SQLOutputValue } from "node:sqlite"

/** A row as node:sqlite gives it. */
export type Row = Readonly<Record<string, SQLOutputValue>>

const wrong = (column: string, wanted: string): TypeError =>
  new TypeError(`Column ${column} holds no ${wanted}.`)

export function stringOf(row: Row, column: string): string {
  const value = row[column]
  if (typeof value !== "string") throw wrong(column, "text")
  return value
}

export function numberOf(row: Row, column: string): number {
  const value = row[column]
  if (typeof value !== "number") throw wrong(column, "number")
  return value
}

/** undefined for NULL. */
export const maybeNumberOf = (row: Row, column: string): number | undefined =>
  row[column] === null ? undefined : numberOf(row, column)
