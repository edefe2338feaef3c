export function HomePlace() {
  return <div class="place">home</div>;
}
