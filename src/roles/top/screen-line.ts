/** What a screen is made of. */

export interface Size {
  readonly columns: number
  readonly rows: number
}
export interface ScreenLine {
  readonly text: string
  readonly style?: "title" | "head" | "selected" | "good" | "alarm" | "faint"
}
