export function ModelsPlace() {
  return <div class="place">models</div>;
}
