// Loaded before a program: while the flag is there, nothing can be written below the directory, as on a disk without room.
import fs from "node:fs"
import { syncBuiltinESMExports } from "node:module"
import { DatabaseSync } from "node:sqlite"

const { FULL_DISK_FLAG: flag = "", FULL_DISK_DIRECTORY: directory = "" } = process.env
const isFull = () => fs.existsSync(flag)
const enospc = () =>
  Object.assign(new Error("ENOSPC: no space left on device, write"), {
    code: "ENOSPC",
    errno: -28,
    syscall: "write",
  })
const below = (file) => {
  if (typeof file !== "number") return String(file).startsWith(directory)
  try {
    return fs.readlinkSync(`/proc/self/fd/${file}`).startsWith(directory)
  } catch {
    return false
  }
}
for (const name of ["writeFileSync", "writeSync", "appendFileSync", "mkdirSync"]) {
  const real = fs[name]
  fs[name] = (file, ...rest) => {
    // A directory that is there already needs no room.
    const isThere = name === "mkdirSync" && fs.existsSync(file)
    if (isFull() && below(file) && !isThere) throw enospc()
    return real(file, ...rest)
  }
}
syncBuiltinESMExports()
// SQLite's own limit gives its own error: the file may not grow.
const { exec } = DatabaseSync.prototype
DatabaseSync.prototype.exec = function (sql) {
  if (sql === "COMMIT" && isFull()) {
    exec.call(this, "ROLLBACK")
    throw Object.assign(new Error("database or disk is full"), {
      code: "ERR_SQLITE_ERROR",
      errcode: 13,
    })
  }
  return exec.call(this, sql)
}
