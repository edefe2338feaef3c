export function ServingPlace() {
  return <div class="place">serving</div>;
}
