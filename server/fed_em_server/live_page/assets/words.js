// Numbers in words, as the report and the terminal say them.

const MINUS = "\u2212";
const PREFIXES = ["", "k", "M", "G", "T"];

export function bytes(count) {
  let size = count, power = 0;
  while (size >= 999.5 && power < PREFIXES.length - 1) { size /= 1000; power += 1; }
  const digits = size >= 99.95 || power === 0 ? size.toFixed(0) : size.toFixed(1).replace(/\.0$/, "");
  return `${digits} ${PREFIXES[power]}B`;
}

export function seconds(time) {
  if (time < 0.1) return `${(1000 * time).toFixed(0)} ms`;
  if (time < 60) return `${time.toFixed(time < 10 ? 2 : 1).replace(/\.?0+$/, "")} s`;
  const whole = Math.round(time), minutes = Math.floor(whole / 60), two = (n) => String(n).padStart(2, "0");
  return minutes < 60 ? `${minutes} min ${two(whole % 60)} s` : `${Math.floor(minutes / 60)} h ${two(minutes % 60)} min`;
}

export function clock(time) {
  const whole = Math.max(0, Math.floor(time)), two = (n) => String(n).padStart(2, "0");
  const hours = Math.floor(whole / 3600), rest = `${two(Math.floor(whole / 60) % 60)}:${two(whole % 60)}`;
  return hours ? `${hours}:${rest}` : rest;
}

export function decimal(value, digits = 4, signed = false) {
  const text = Math.abs(value).toFixed(digits);
  if (!Number(text)) return text;
  return `${value < 0 ? MINUS : signed ? "+" : ""}${text}`;
}

export function power(value) {
  const [digits, exponent] = value.toExponential(1).split("e");
  const size = digits.replace("-", "").replace(/\.0$/, ""), factor = size === "1" ? "" : `${size}·`;
  return `${value < 0 ? MINUS : ""}${factor}10${superscript(Number(exponent))}`;
}

export function superscript(exponent) {
  return String(exponent).replace("-", "⁻").replace(/\d/g, (d) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[d]);
}

export function names(all, most = 4) {
  if (!all.length) return "nobody";
  const shown = all.length <= most ? [...all] : [...all.slice(0, most - 1), `${all.length - most + 1} more`];
  return shown.length === 1 ? shown[0] : `${shown.slice(0, -1).join(", ")} and ${shown.at(-1)}`;
}

export function share(weight) {
  return `${(100 * weight).toFixed(1)} %`;
}
