// Texts to begin with, in both languages: with a turn, with a pronoun to resolve, plain.

export const EXAMPLES = [
  "The film starts slowly, but the ending is wonderful.",
  "The animal didn't cross the street because it was too tired.",
  "A good film",
] as const;

/** Offered by name alone: its characters would make some machines fetch a font of 16 MB. */
export const CHINESE = "这部电影开头很慢，但是结尾非常精彩。";
