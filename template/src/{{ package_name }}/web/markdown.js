// The text of an answer as Markdown that dcc.Markdown can draw.
window.chatMarkdown = (() => {
  const FENCED = /^[ \t>*+\-\d.]*(?<fence>`{3,}|~{3,})[^`\n]*\n[^]*?(?:^[ \t>]*\k<fence>|(?![^]))/;
  const INDENTED = /(?<=^(?!(?:[-*+]|\d+[.)])\s)\S.*\n[ \t]*\n)(?:(?: {4}|\t).*\n?|[ \t]*\n)+/; // no list
  const IN_BACKTICKS = /(?<!`)(?<ticks>`+)(?!`)(?:(?!\n\n)[^])+?(?<!`)\k<ticks>(?!`)/;
  const BLOCK_FORMULA = /(?:(?<indent>^[ \t]*)|)(?:\$\$|\\\[)(?<block>[^$]{1,2000}?)(?:\$\$|\\\])/;
  const FORMULA = /\\\((?<inline>[^$\n]{1,500}?)\\\)/;
  const LINK = /(?<image>!)?\[(?<label>[^[\]\n]*)\](?=\((?<address>[^\s)]+))/;
  const anyOf = (...patterns) => new RegExp(patterns.map(({ source }) => source).join("|"), "gm");
  const CODE = anyOf(FENCED, INDENTED, IN_BACKTICKS);
  const MARKS = anyOf(CODE, BLOCK_FORMULA, FORMULA, LINK, /\\[^]/, /[[$]/);

  // A bare bracket or dollar stays text; an image becomes a link, as it is not fetched.
  const toMarkdown = (text) =>
    text.replace(MARKS, (mark, ...rest) => {
      const { indent, block, inline, image, label, address } = rest.at(-1);
      const formula = (block ?? inline)?.trim();
      if (indent !== undefined) return `\n${indent}$$\n${indent}${formula}\n${indent}$$\n`;
      if (formula) return `$${formula}$`;
      if (image) return `[${label || address}]`;
      return mark === "[" || mark === "$" ? `\\${mark}` : mark;
    });

  // Very long text and very many marks would freeze the page.
  const many = (marks, text) => text.match(marks)?.length > 2000;
  const isPlain = (text) =>
    text.length > 100_000 || many(/[`~]/g, text) || many(/[*_[>\\$]/g, text.replace(CODE, ""));

  // Cuts a growing text before its last paragraph or heading outside of code, formulas and lists:
  // only the text after the cut is redrawn. A text of over 10,000 characters is not cut.
  const OPEN_FORMULA = /^[ \t]*(?:\$\$|\\\[)[^]*?(?:\$\$|\\\]|(?![^]))/;
  const BREAK = /(?<break>\n[ \t]*\n)(?=[^\s\d*+>-]|\*\*)/;
  const BREAKS = anyOf(FENCED, OPEN_FORMULA, BREAK);
  const cut = (text) => {
    if (text.length < 1000 || text.length > 10_000) return [text];
    const last = [...text.matchAll(BREAKS)].findLast(({ groups }) => groups.break);
    return last ? [text.slice(0, last.index), text.slice(last.index + last[0].length)] : [text];
  };

  return { toMarkdown, isPlain, cut };
})();
