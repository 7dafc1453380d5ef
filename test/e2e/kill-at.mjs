// Loaded before a program: it kills itself before the statement that a file names, once.
import fs from "node:fs"
import { DatabaseSync } from "node:sqlite"

const { KILL_AT_FILE: file = "" } = process.env
const { prepare } = DatabaseSync.prototype
DatabaseSync.prototype.prepare = function (sql) {
  const statement = prepare.call(this, sql)
  if (!/^\s*(INSERT|UPDATE|DELETE)/.test(sql)) return statement
  const run = statement.run.bind(statement)
  statement.run = (...values) => {
    const wanted = fs.existsSync(file) ? fs.readFileSync(file, "utf8") : ""
    if (wanted !== "" && sql.includes(wanted)) {
      fs.rmSync(file)
      process.kill(process.pid, "SIGKILL")
    }
    return run(...values)
  }
  return statement
}
