// Numbers and times as people read them, in one place so that the views agree.

export function percent(share, digits = 1) {
  return `${(share * 100).toFixed(digits)} %`;
}

export function count(number) {
  return number.toLocaleString("en-US");
}

/** Seconds since 1970 -> "just now", "12 min ago", then a date. */
export function ago(seconds) {
  const passed = Math.max(0, Date.now() / 1000 - seconds);
  if (passed < 45) return "just now";
  if (passed < 3600) return `${Math.round(passed / 60)} min ago`;
  if (passed < 86400) return `${Math.round(passed / 3600)} h ago`;
  return new Date(seconds * 1000).toLocaleDateString("en-GB", { day: "numeric", month: "short", year: "numeric" });
}

export function clock(seconds) {
  return new Date(seconds * 1000).toLocaleTimeString("en-GB");
}

export function duration(seconds) {
  if (seconds < 60) return `${Math.max(0, Math.round(seconds))} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
  return `${Math.floor(seconds / 3600)} h ${Math.round((seconds % 3600) / 60)} min`;
}

/** "ft:minilm-l6:vitrine:movie-sentiment:a1b2c3" -> "movie-sentiment", the part its owner chose. */
export function shortModelName(id) {
  const parts = id.split(":");
  return parts[0] === "ft" && parts.length >= 4 ? parts[3] : id;
}
