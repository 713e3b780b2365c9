// What the interface `text` promises. What is thrown is the error of a `result`.

export const text = {
  fold(word) {
    if (/\d/.test(word)) {
      throw `"${word}" is not a word`;
    }
    return word.toLowerCase();
  },

  table(rows) {
    const width = Math.max(...rows.map(({ word }) => word.length));
    return rows
      .map(({ word, times }) => `${word.padEnd(width)} ${times} ${"#".repeat(times)}\n`)
      .join("");
  },
};
