// Texts to begin with, in both languages: with a turn, with a pronoun to resolve, plain.

export const EXAMPLES = [
  "The film starts slowly, but the ending is wonderful.",
  "The animal didn't cross the street because it was too tired.",
  "A good film",
  "这部电影开头很慢，但是结尾非常精彩。",
] as const;
